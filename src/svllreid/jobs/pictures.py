"""Test images that are the same picture: they are left out of rankings, or the user is warned of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from svllreid.data.duplicates import name_pairs, overlap, same_pictures, within_identities
from svllreid.runtime.progress import LiveReport
from svllreid.types import Splits


def with_pictures(splits: Splits, report: LiveReport) -> Splits:
    """The splits with notes on test images that are the same picture.

    Under leave-self-out such gallery images are left out of the ranking of their query, so the splits also get the
    number of the picture of each path. The other protocols stay as published. For their notes only images of the same
    identity are compared, which is fast.
    """
    if not splits.testable:
        return splits
    tested = (*splits.query, *splits.gallery)
    with report.counting("comparing test images", len({sample.path for sample in tested})) as count:
        if splits.protocol == "leave-self-out":
            pictures = same_pictures((sample.path for sample in tested), count)
            return replace(splits, pictures=pictures, notes=(*splits.notes, *_left_out(splits, pictures)))
        pictures = within_identities(tested, count)
    notes = _other_cameras(splits, pictures) if splits.protocol == "cross-camera" else _repeated(splits, pictures)
    return replace(splits, notes=(*splits.notes, *notes))


def _left_out(splits: Splits, pictures: Mapping[Path, int]) -> list[str]:
    """Notes on gallery images that are a query's picture: those left out of rankings, and those of other identities."""
    same = overlap(splits.query, splits.gallery, pictures, lambda query, image: query.pid == image.pid)
    notes = []
    if same.queries:
        copies = len({image.path for image in same.gallery} - {query.path for query in same.queries})
        elsewhere = f" ({copies} of them in files of their own: copies or links)" if copies else ""
        notes.append(
            f"{len(same.gallery)} gallery images{elsewhere} are left out of the rankings of {len(same.queries)} "
            "queries: they are the query's own picture"
        )
    wrong = overlap(splits.query, splits.gallery, pictures, lambda query, image: query.pid != image.pid)
    if wrong.queries:
        notes.append(
            f"{len(wrong.gallery)} gallery images are the picture of a query, under another identity, and count as "
            f"wrong: {name_pairs(wrong.examples)}"
        )
    return notes


def _other_cameras(splits: Splits, pictures: Mapping[Path, int]) -> list[str]:
    """A warning about queries whose picture is in the gallery under another camera, where it counts as a match."""
    matches = overlap(
        splits.query,
        splits.gallery,
        pictures,
        lambda query, image: query.pid == image.pid and query.camid != image.camid,
    )
    if not matches.queries:
        return []
    return [
        f"{len(matches.queries)} queries are in the gallery too, the same picture under another camera, which flatters "
        f"the numbers: {name_pairs(matches.examples)}"
    ]


def _repeated(splits: Splits, pictures: Mapping[Path, int]) -> list[str]:
    """A warning about images that repeat a picture of their identity under `vehicleid-10`."""
    repeated = len(splits.query) - len({pictures[sample.path] for sample in splits.query})
    if not repeated:
        return []
    return [f"{repeated} test images repeat a picture of their identity, which flatters the numbers"]

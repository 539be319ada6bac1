"""Splits made from splits: several training sets joined, and training identities held out."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from svllreid.data.readers.layout import by_path
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Pid, Sample, SideRows, Splits


def join(parts: Sequence[Splits]) -> Splits:
    """Joins the training sets; query, gallery, protocol and noun are the first part's.

    Training pids become text, `name/pid` (a name met again: `name#2/pid`), so no two parts share one. The first part's
    cameras and views stay as they are, as in its query and gallery; those of each later part get the lowest numbers
    that no part before has in any split; UNKNOWN stays UNKNOWN. One part alone is returned unchanged.

    Args:
        parts: what the readers made.
    Returns: splits named `first+second+...`, each part's notes under its name.
    Raises: DatasetError: no part, or a part without training images.
    """
    if not parts:
        raise DatasetError("no dataset to join: name at least one", settings=("dataset",))
    if len(parts) == 1:
        return parts[0]
    names = distinct([part.name for part in parts])
    train: list[Sample] = []
    notes: list[str] = []
    taken_cameras: set[int] = set()
    taken_views: set[int] = set()
    for name, part in zip(names, parts, strict=True):
        if not part.train:
            raise DatasetError(
                f"{name} has no training images to join with others; leave it out", settings=("dataset",)
            )
        rows = SideRows.of(part.train + part.query + part.gallery)
        cameras, views = _free(rows.cameras, taken_cameras), _free(rows.views, taken_views)
        train += [
            Sample(sample.path, f"{name}/{sample.pid}", cameras[sample.camid], views[sample.viewid])
            for sample in part.train
        ]
        notes += [f"{name}: {note}" for note in part.notes]
    first = parts[0]
    return replace(first, name="+".join(names), train=tuple(train), notes=tuple(notes))


def distinct(names: Sequence[str]) -> list[str]:
    """The names, each met again with its number: a, b, a#2."""
    met: Counter[str] = Counter()
    distinct = []
    for name in names:
        met[name] += 1
        distinct.append(name if met[name] == 1 else f"{name}#{met[name]}")
    return distinct


def _free(numbers: Sequence[int], taken: set[int]) -> dict[int, int]:
    """The number that each of a part's numbers gets, added to those taken; the first part keeps its own."""
    free = (number for number in itertools.count() if number not in taken)
    given = dict(zip(numbers, free if taken else numbers, strict=False))
    taken.update(given.values())
    return {UNKNOWN: UNKNOWN, **given}


def hold_out(splits: Splits, share: float, seed: int) -> Splits:
    """Holds training identities out as query and gallery, to choose settings on; the test set is left out.

    Held out are only identities that can be searched: with two cameras or more under cross-camera, else with two images
    or more. Of each camera with several images, one drawn image is the query and the rest are gallery; the single image
    of a camera is gallery, but where no camera has several, the first camera's is the query. So each query has a match.
    Under vehicleid-10 all held-out images are in `query`, as its reader has it, for the protocol to draw from.

    Args:
        splits: what a reader or `join` made.
        share: of all training identities, between 0 and 1, rounded to whole identities, one at least.
        seed: the same seed holds out the same identities and draws the same queries.
    Returns: splits without the test set's images; train keeps the other identities.
    Raises: DatasetError: a share not between 0 and 1, or fewer identities that can be searched than it asks for.
    """
    if not 0 < share < 1:
        raise DatasetError(
            f"the held-out share of identities is {share}: give a number above 0 and below 1",
            settings=("held-out share",),
        )
    images: dict[Pid, list[Sample]] = {}
    for sample in splits.train:
        images.setdefault(sample.pid, []).append(sample)
    count = max(1, round(share * len(images)))
    able = [pid for pid in sorted(images) if _searchable(images[pid], splits.protocol)]
    if count > len(able) or count >= len(images):
        raise DatasetError(
            f"{splits.name}: a held-out share of {share} is {count} of {len(images)} training identities, but only "
            f"{len(able)} can be held out (a query needs a match), and one must be left to train on; lower the share",
            settings=("held-out share",),
        )
    generator = random.Random(seed)
    held = generator.sample(able, count)
    gone = set(held)
    query, gallery = _to_test([images[pid] for pid in held], splits.protocol, generator)
    note = f"{count} of {len(images)} training identities held out for choosing settings; the test set is not used"
    train = tuple(sample for sample in splits.train if sample.pid not in gone)
    notes = (*splits.notes, note)
    return replace(splits, train=train, query=by_path(query), gallery=by_path(gallery), notes=notes, parts={})


def _searchable(samples: Sequence[Sample], protocol: str) -> bool:
    if protocol == "cross-camera":
        return len({sample.camid for sample in samples}) > 1
    return len(samples) > 1


def _to_test(
    identities: Sequence[Sequence[Sample]], protocol: str, generator: random.Random
) -> tuple[list[Sample], list[Sample]]:
    """Query and gallery of the identities held out."""
    if protocol == "vehicleid-10":
        return [sample for samples in identities for sample in samples], []
    query: list[Sample] = []
    gallery: list[Sample] = []
    for samples in identities:
        cameras: dict[int, list[Sample]] = {}
        for sample in samples:
            cameras.setdefault(sample.camid, []).append(sample)
        several = [camera for camera in sorted(cameras) if len(cameras[camera]) > 1] or [min(cameras)]
        drawn = {generator.choice(cameras[camera]) for camera in several}
        query += [sample for sample in samples if sample in drawn]
        gallery += [sample for sample in samples if sample not in drawn]
    return query, gallery

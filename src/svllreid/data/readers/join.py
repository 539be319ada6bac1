"""Joining the training sets of several datasets, and holding out training identities."""

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
    """Joins the training sets of several datasets; query, gallery, protocol and noun are those of the first.

    - Training pids become the text `name/pid`, so datasets share none; a dataset that is named again is `name#2`.
    - The first dataset keeps its cameras and viewpoints, which are those of its query and gallery. The ones of each
      further dataset get the lowest numbers that no earlier dataset has in any split. UNKNOWN stays UNKNOWN.
    - One dataset alone is returned unchanged.

    Args:
        parts: the datasets, as their readers return them.
    Returns: splits with the name `first+second+…`; notes begin with the name of their dataset.
    Raises: DatasetError: there is no dataset, or one has no training images.
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
    """Makes names distinct by numbering repeated ones.

    >>> distinct(["a", "b", "a"])
    ['a', 'b', 'a#2']
    """
    counts: Counter[str] = Counter()
    numbered = []
    for name in names:
        counts[name] += 1
        numbered.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return numbered


def _free(numbers: Sequence[int], taken: set[int]) -> dict[int, int]:
    """The new number of each of a dataset's numbers, which are added to `taken`; the first dataset keeps its own."""
    free = (number for number in itertools.count() if number not in taken)
    new_numbers = dict(zip(numbers, free if taken else numbers, strict=False))
    taken.update(new_numbers.values())
    return {UNKNOWN: UNKNOWN, **new_numbers}


def hold_out(splits: Splits, share: float, seed: int) -> Splits:
    """Makes query and gallery from held-out training identities, so that settings are not chosen on the test set.

    Only identities whose queries have a match are held out: under cross-camera those with images of two or more
    cameras, else those with two or more images. From each camera with several images of an identity, one image, drawn
    at random, is a query and the others are gallery. The only image of a camera is gallery; but if every camera has
    only one, that of the first camera is the query. Under vehicleid-10 all held-out images are in `query`, from which
    the protocol draws.

    Args:
        splits: a dataset, from a reader or from `join`.
        share: share of the training identities to hold out, between 0 and 1; at least one identity is held out.
        seed: decides which identities are held out and which images are queries.
    Returns: splits without the test set's images; the other identities stay in train.
    Raises: DatasetError: the share is not between 0 and 1, or too few identities can be held out.
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
    drawn = generator.sample(able, count)
    held_out = set(drawn)
    query, gallery = _to_test([images[pid] for pid in drawn], splits.protocol, generator)
    note = f"{count} of {len(images)} training identities held out for choosing settings; the test set is not used"
    train = tuple(sample for sample in splits.train if sample.pid not in held_out)
    notes = (*splits.notes, note)
    return replace(splits, train=train, query=by_path(query), gallery=by_path(gallery), notes=notes, parts={})


def _searchable(samples: Sequence[Sample], protocol: str) -> bool:
    if protocol == "cross-camera":
        return len({sample.camid for sample in samples}) > 1
    return len(samples) > 1


def _to_test(
    identities: Sequence[Sequence[Sample]], protocol: str, generator: random.Random
) -> tuple[list[Sample], list[Sample]]:
    """Query and gallery made of the images of held-out identities."""
    if protocol == "vehicleid-10":
        return [sample for samples in identities for sample in samples], []
    query: list[Sample] = []
    gallery: list[Sample] = []
    for samples in identities:
        cameras: dict[int, list[Sample]] = {}
        for sample in samples:
            cameras.setdefault(sample.camid, []).append(sample)
        several = [camera for camera in sorted(cameras) if len(cameras[camera]) > 1] or [min(cameras)]
        queries = {generator.choice(cameras[camera]) for camera in several}
        query += [sample for sample in samples if sample in queries]
        gallery += [sample for sample in samples if sample not in queries]
    return query, gallery

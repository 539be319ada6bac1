"""What a dataset holds: its identities, images, cameras and image sizes, counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

from svllreid.data.images import upright_size
from svllreid.data.readers import DATASETS
from svllreid.types import UNKNOWN, Pid, Sample, Splits

FREQUENT = 3


@dataclass(frozen=True, slots=True)
class Spread:
    """The smallest value, median, mean and largest value of some whole numbers."""

    low: int
    median: float
    mean: float
    high: int

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Spread | None:
        """The spread of some numbers; None if there are none."""
        return cls(min(numbers), median(numbers), mean(numbers), max(numbers)) if numbers else None


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """The counts of one split.

    Args:
        identities: number of identities, without distractors.
        images: number of images, distractors included.
        distractors: number of images that belong to no identity.
        by_camera: number of images of each zero-based camera, in order; UNKNOWN (-1) counts those without a camera.
        per_identity: images per identity, without distractors; None if there are no identities.
    """

    identities: int
    images: int
    distractors: int
    by_camera: Mapping[int, int]
    per_identity: Spread | None

    @property
    def cameras(self) -> int:
        """Number of known cameras."""
        return len(self.by_camera.keys() - {UNKNOWN})


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of upright images in pixels, read from the headers of the files or of a random sample of them.

    Args:
        read: number of files whose headers were read.
        images: number of files in all.
        heights, widths: their spread; None without images.
        frequent: the most frequent sizes, the most frequent first: (height, width) and number of images.
    """

    read: int
    images: int
    heights: Spread | None
    widths: Spread | None
    frequent: tuple[tuple[tuple[int, int], int], ...]


@dataclass(frozen=True, slots=True)
class Description:
    """What a dataset holds.

    Args:
        splits: counts of train, query and gallery.
        sizes: image sizes over all splits.
        shared: identities that are both in train and in query or gallery, in order. None if that cannot be known,
            because the dataset numbers identities from 0 in both.
    """

    splits: Mapping[str, SplitCounts]
    sizes: Sizes
    shared: tuple[Pid, ...] | None


def describe(splits: Splits, seed: int = 0, max_headers: int = 2000) -> Description:
    """Counts what a dataset holds.

    Args:
        splits: the dataset, as its reader returns it.
        seed: decides which files are sampled, if there are more than `max_headers`.
        max_headers: how many files are opened at most, for their sizes.
    Raises: ImageError: one of these files is not an image.
    """
    record = DATASETS.get(splits.name)  # joined sets have none
    # Counted as one identity, thousands of distractors would dominate the images per identity.
    distractor = None if record is None else record.distractor
    parts = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
    return Description(
        splits={name: _count(samples, distractor) for name, samples in parts.items()},
        sizes=_sizes(unique_images(splits), random.Random(seed), max_headers),
        shared=None if record is not None and record.numbered_apart else _shared(splits),
    )


def _shared(splits: Splits) -> tuple[Pid, ...]:
    """Identities of train that are in query or gallery too, in order."""
    compared = comparable_pid(splits)
    tested = {compared(sample.pid) for sample in splits.query + splits.gallery}
    return tuple(sorted(pid for pid in {sample.pid for sample in splits.train} if compared(pid) in tested))


def comparable_pid(splits: Splits) -> Callable[[Pid], Pid]:
    """A function that makes pids of train and test comparable.

    It returns a pid itself, or its text without leading zeros if some pids are numbers and others are text.
    """
    kinds = {type(sample.pid) for sample in splits.train + splits.query + splits.gallery}
    return _text if len(kinds) > 1 else lambda pid: pid


def _text(pid: Pid) -> str:
    text = str(pid)
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else text


def unique_images(splits: Splits) -> list[Sample]:
    """The images of all splits, each file once; own data may list a file both in query and in gallery."""
    return list({sample.path: sample for sample in splits.train + splits.query + splits.gallery}.values())


def _count(samples: Sequence[Sample], distractor: Pid | None) -> SplitCounts:
    identities = Counter(sample.pid for sample in samples)
    distractors = 0 if distractor is None else identities.pop(distractor, 0) + identities.pop(str(distractor), 0)
    return SplitCounts(
        identities=len(identities),
        images=len(samples),
        distractors=distractors,
        by_camera=dict(sorted(Counter(sample.camid for sample in samples).items())),
        per_identity=Spread.of(list(identities.values())),
    )


def _sizes(samples: Sequence[Sample], generator: random.Random, limit: int) -> Sizes:
    drawn = samples if len(samples) <= limit else generator.sample(samples, limit)
    sizes = [upright_size(sample.path) for sample in drawn]
    return Sizes(
        read=len(sizes),
        images=len(samples),
        heights=Spread.of([height for height, _ in sizes]),
        widths=Spread.of([width for _, width in sizes]),
        frequent=_most_frequent(sizes),
    )


def _most_frequent(sizes: Iterable[tuple[int, int]]) -> tuple[tuple[tuple[int, int], int], ...]:
    """Sizes that are equally frequent are ordered by size, so that the order of files does not matter."""
    return tuple(sorted(Counter(sizes).items(), key=lambda item: (-item[1], item[0]))[:FREQUENT])

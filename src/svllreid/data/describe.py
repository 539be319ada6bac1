"""What a dataset holds: identities, images, cameras and image sizes, counted."""

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
    """Smallest, median, mean and largest of some whole numbers."""

    low: int
    median: float
    mean: float
    high: int

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Spread | None:
        """The spread of some numbers, None of none."""
        return cls(min(numbers), median(numbers), mean(numbers), max(numbers)) if numbers else None


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """The counts of one split.

    Args:
        identities: how many, distractors left out.
        images: how many, distractors among them.
        distractors: images of no identity.
        by_camera: images of each zero-based camera, in order; UNKNOWN (-1) where nobody says.
        per_identity: images per identity, distractors left out; None without identities.
    """

    identities: int
    images: int
    distractors: int
    by_camera: Mapping[int, int]
    per_identity: Spread | None

    @property
    def cameras(self) -> int:
        """Known cameras."""
        return len(self.by_camera.keys() - {UNKNOWN})


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of upright images in pixels, read from the headers of some of the files.

    Args:
        read: how many files were read; all, or so many drawn at random.
        images: how many there are, each file counted once.
        heights, widths: their spread; None without images.
        frequent: (height, width) and number of images of the most frequent sizes, the most frequent first.
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
        sizes: of the images of all splits.
        shared: identities in train and test, in order; None where their numbers cannot tell.
    """

    splits: Mapping[str, SplitCounts]
    sizes: Sizes
    shared: tuple[Pid, ...] | None


def describe(splits: Splits, seed: int = 0, max_headers: int = 2000) -> Description:
    """Counts what a dataset holds.

    Args:
        splits: what its reader made of it.
        seed: the same seed draws the same files, where there are more than `max_headers`.
        max_headers: how many files are opened at most, for their sizes; decoded are only those whose headers do not
            tell how they are turned.
    Raises: ImageError: a file among them that is no image.
    """
    record = DATASETS.get(splits.name)  # none of joined sets
    # Thousands of images of nobody in particular would drown the counts of the others.
    distractor = None if record is None else record.distractor
    parts = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
    return Description(
        splits={name: _count(samples, distractor) for name, samples in parts.items()},
        sizes=_sizes(unique_images(splits), random.Random(seed), max_headers),
        shared=None if record is not None and record.numbered_apart else _shared(splits),
    )


def _shared(splits: Splits) -> tuple[Pid, ...]:
    """Identities of train, in order, that are in query or gallery too."""
    compared = identity_of(splits)
    tested = {compared(sample.pid) for sample in splits.query + splits.gallery}
    return tuple(sorted(pid for pid in {sample.pid for sample in splits.train} if compared(pid) in tested))


def identity_of(splits: Splits) -> Callable[[Pid], Pid]:
    """What a pid is compared by between train and test: itself, or its text where only one of the two has numbers."""
    kinds = {type(sample.pid) for sample in splits.train + splits.query + splits.gallery}
    return _text if len(kinds) > 1 else lambda pid: pid


def _text(pid: Pid) -> str:
    text = str(pid)
    return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else text


def unique_images(splits: Splits) -> list[Sample]:
    """The images of all splits, each file once: own data may list one in query and gallery."""
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
    """Those met equally often in order of size, so that the answer does not hang on the order of files."""
    return tuple(sorted(Counter(sizes).items(), key=lambda item: (-item[1], item[0]))[:FREQUENT])

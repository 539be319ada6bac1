"""Which files hold the same picture: copies, links, and one file listed twice."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svllreid.data.describe import identity_of
from svllreid.data.readers import DATASETS
from svllreid.types import Pid, Sample, Splits

CountCallback = Callable[[int], None]
Pair = tuple[Sample, Sample]
NAMED = 3


def same_pictures(paths: Iterable[Path], progress: CountCallback | None = None) -> dict[Path, int]:
    """The number of the picture behind each path: equal for one file under several names, and for equal bytes.

    Only files of equal size are read. A file that is empty or cannot be read is a picture of its own: it is reported
    where it is decoded.

    Args:
        paths: image files; links are followed.
        progress: called with the number of paths done since.
    """
    advance = progress or (lambda done: None)
    numbers: dict[Path, int] = {}
    names: dict[Hashable, list[Path]] = defaultdict(list)  # of each file
    sizes: dict[int, list[Hashable]] = defaultdict(list)  # files of each size
    for path in dict.fromkeys(paths):
        state = _stat(path)
        if state is None or not state.st_size:
            numbers[path] = len(numbers)
            advance(1)
            continue
        file: Hashable = (state.st_dev, state.st_ino) if state.st_ino else path  # some file systems number no files
        if file not in names:
            sizes[state.st_size].append(file)
        names[file].append(path)
    known: dict[bytes, int] = {}
    for files in sizes.values():
        for file in files:
            digest = _digest(names[file][0]) if len(files) > 1 else None
            number = len(numbers) if digest is None else known.setdefault(digest, len(numbers))
            numbers |= dict.fromkeys(names[file], number)
            advance(len(names[file]))
    return numbers


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Images that are the same picture as another one, each in its order.

    Args:
        queries, gallery: the images.
        examples: the first three pairs.
    """

    queries: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    examples: tuple[Pair, ...]


def overlap(
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    pictures: Mapping[Path, int],
    counts: Callable[[Sample, Sample], bool],
) -> Overlap:
    """Queries that are in the gallery as the same picture.

    Args:
        query, gallery: the images.
        pictures: of every path, as `same_pictures` gives them.
        counts: whether a query and a gallery image of the same picture are wanted.
    """
    behind: dict[int, list[Sample]] = defaultdict(list)
    for sample in gallery:
        behind[pictures[sample.path]].append(sample)
    queries: list[Sample] = []
    met: set[Sample] = set()
    examples: list[Pair] = []
    for sample in query:
        mates = [mate for mate in behind.get(pictures[sample.path], ()) if counts(sample, mate)]
        if mates:
            queries.append(sample)
            met.update(mates)
            examples.append((sample, mates[0]))
    return Overlap(tuple(queries), tuple(sample for sample in gallery if sample in met), tuple(examples[:NAMED]))


def within_identities(samples: Iterable[Sample], progress: CountCallback | None = None) -> dict[Path, int]:
    """As `same_pictures`, but only images of one identity are compared: hardly a file is read."""
    paths: dict[Pid, list[Path]] = defaultdict(list)
    for sample in samples:
        paths[sample.pid].append(sample.path)
    numbers: dict[Path, int] = {}
    start = 0
    for of_one in paths.values():
        numbers |= {path: start + number for path, number in same_pictures(of_one, progress).items()}
        start += len(of_one)
    return numbers


def in_words(pairs: Iterable[Pair]) -> str:
    """Pairs of the same picture for a message, with their identities."""
    return "; ".join(f"{a.path} ({a.pid}) = {b.path} ({b.pid})" for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Pictures that a dataset holds more than once.

    Args:
        within: images of each split that repeat an earlier one of it.
        between: of two splits the images of the second that are in the first too.
        contradictions: pictures under two identities or more.
        examples: two images of each of the first three of these.
    """

    within: Mapping[str, int]
    between: Mapping[tuple[str, str], int]
    contradictions: int
    examples: tuple[Pair, ...]


def find_duplicates(splits: Splits, progress: CountCallback | None = None) -> Duplicates:
    """Counts pictures that stand more than once in the splits, see `same_pictures`."""
    named = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
    numbers = same_pictures((sample.path for samples in named.values() for sample in samples), progress)
    pictures = {name: {numbers[sample.path] for sample in samples} for name, samples in named.items()}
    pairs = (("train", "query"), ("train", "gallery"), ("query", "gallery"))
    contradictions = _contradictions(splits, numbers)
    return Duplicates(
        within={name: len(samples) - len(pictures[name]) for name, samples in named.items()},
        between={(a, b): sum(numbers[sample.path] in pictures[a] for sample in named[b]) for a, b in pairs},
        contradictions=len(contradictions),
        examples=tuple(contradictions[:NAMED]),
    )


def _contradictions(splits: Splits, numbers: Mapping[Path, int]) -> list[Pair]:
    """For each picture under several identities the first image and the first one of another identity."""
    compared = identity_of(splits)
    record = DATASETS.get(splits.name)
    apart = record is not None and record.numbered_apart
    first: dict[tuple[int, bool], Sample] = {}
    found: dict[int, Pair] = {}
    for trained, samples in ((True, splits.train), (False, splits.query + splits.gallery)):
        for sample in samples:
            picture = numbers[sample.path]
            other = first.setdefault((picture, apart and trained), sample)
            if compared(other.pid) != compared(sample.pid):
                found.setdefault(picture, (other, sample))
    return list(found.values())

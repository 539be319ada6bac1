"""Files that hold the same picture: copies, links, and files that are listed twice."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svllreid.data.describe import comparable_pid
from svllreid.data.readers import DATASETS
from svllreid.types import Pid, Sample, Splits

CountCallback = Callable[[int], None]
Pair = tuple[Sample, Sample]
NAMED = 3


def same_pictures(paths: Iterable[Path], progress: CountCallback | None = None) -> dict[Path, int]:
    """Numbers the pictures behind paths: two paths have equal numbers if they are one file, or files of equal bytes.

    Only files of equal size are read. A file that is empty or cannot be read gets a number of its own; it is reported
    when it is decoded.

    Args:
        paths: image files; links are followed.
        progress: called with the number of paths done since its last call.
    Returns: the number of each path.
    """
    advance = progress or (lambda done: None)
    numbers: dict[Path, int] = {}
    names: dict[Hashable, list[Path]] = defaultdict(list)  # the paths of each file
    sizes: dict[int, list[Hashable]] = defaultdict(list)  # the files of each size
    for path in dict.fromkeys(paths):
        state = _stat(path)
        if state is None or not state.st_size:
            numbers[path] = len(numbers)
            advance(1)
            continue
        file: Hashable = (state.st_dev, state.st_ino) if state.st_ino else path  # a file system without file numbers
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
    """Pictures that are both among the queries and in the gallery.

    Args:
        queries: the queries whose picture is in the gallery, in their order.
        gallery: the gallery images whose picture is among the queries, in their order.
        examples: the first three pairs of a query and a gallery image.
    """

    queries: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    examples: tuple[Pair, ...]


def overlap(
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    pictures: Mapping[Path, int],
    wanted: Callable[[Sample, Sample], bool],
) -> Overlap:
    """Finds queries whose picture is in the gallery too.

    Args:
        query, gallery: the images.
        pictures: the number of each path's picture, see `same_pictures`.
        wanted: whether a query and a gallery image with the same picture are to be counted.
    """
    by_picture: dict[int, list[Sample]] = defaultdict(list)
    for sample in gallery:
        by_picture[pictures[sample.path]].append(sample)
    queries: list[Sample] = []
    repeated: set[Sample] = set()
    examples: list[Pair] = []
    for sample in query:
        mates = [mate for mate in by_picture.get(pictures[sample.path], ()) if wanted(sample, mate)]
        if mates:
            queries.append(sample)
            repeated.update(mates)
            examples.append((sample, mates[0]))
    return Overlap(tuple(queries), tuple(sample for sample in gallery if sample in repeated), tuple(examples[:NAMED]))


def within_identities(samples: Iterable[Sample], progress: CountCallback | None = None) -> dict[Path, int]:
    """Numbers pictures as `same_pictures` does, but compares only images of one identity, so hardly a file is read."""
    paths: dict[Pid, list[Path]] = defaultdict(list)
    for sample in samples:
        paths[sample.pid].append(sample.path)
    numbers: dict[Path, int] = {}
    start = 0
    for of_one in paths.values():
        numbers |= {path: start + number for path, number in same_pictures(of_one, progress).items()}
        start += len(of_one)
    return numbers


def name_pairs(pairs: Iterable[Pair]) -> str:
    """Pairs of files with the same picture, with their identities, in words for a message."""
    return "; ".join(f"{a.path} ({a.pid}) = {b.path} ({b.pid})" for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Duplicates:
    """How many pictures a dataset holds more than once.

    Args:
        within: for each split, how many images repeat an earlier image of it.
        between: for each pair of splits, how many images of the second are in the first too.
        contradictions: how many pictures are listed under several identities.
        examples: two images of different identities for each of the first three such pictures.
    """

    within: Mapping[str, int]
    between: Mapping[tuple[str, str], int]
    contradictions: int
    examples: tuple[Pair, ...]


def find_duplicates(splits: Splits, progress: CountCallback | None = None) -> Duplicates:
    """Counts pictures that the splits hold more than once; `progress` as for `same_pictures`."""
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
    """For each picture under several identities, its first image and the first one of another identity."""
    compared = comparable_pid(splits)
    record = DATASETS.get(splits.name)
    # Where train and test number identities independently, images are compared within each of the two only.
    apart = record is not None and record.numbered_apart
    first: dict[tuple[int, bool], Sample] = {}
    contradictions: dict[int, Pair] = {}
    for trained, samples in ((True, splits.train), (False, splits.query + splits.gallery)):
        for sample in samples:
            picture = numbers[sample.path]
            other = first.setdefault((picture, apart and trained), sample)
            if compared(other.pid) != compared(sample.pid):
                contradictions.setdefault(picture, (other, sample))
    return list(contradictions.values())

"""Identities and cameras as the numbers that file names, lists and tables write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from svllreid.data.readers.layout import first_three
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Pid, Sample

# Identities and cameras are compared in arrays of 64 bits.
LARGEST = 2**63 - 1


def fits(digits: str) -> bool:
    """Whether the number that a text of digits writes fits 64 bits."""
    significant = digits.lstrip("0") or "0"
    return len(significant) <= len(str(LARGEST)) and int(significant) <= LARGEST


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image as its dataset labels it: a Sample whose identity is still the text that was written."""

    path: Path
    identity: str
    camid: int = UNKNOWN
    viewid: int = UNKNOWN


def to_samples(
    pids_of: Callable[[Iterable[str]], dict[str, Pid]],
    train: Sequence[Labelled],
    query: Sequence[Labelled],
    gallery: Sequence[Labelled],
) -> tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[Sample, ...]]:
    """The samples of each split, in the given order.

    Training identities alone decide whether they are int or text, and those of query and gallery together: who is to
    be found later changes nothing about who was trained on.

    Args:
        pids_of: the pid of each text, as `numbered` gives it.
        train, query, gallery: the images.
    """
    known = pids_of(image.identity for image in train)
    tested = pids_of(image.identity for image in (*query, *gallery))

    def samples(images: Sequence[Labelled], pids: dict[str, Pid]) -> tuple[Sample, ...]:
        return tuple(Sample(image.path, pids[image.identity], image.camid, image.viewid) for image in images)

    return samples(train, known), samples(query, tested), samples(gallery, tested)


def numbered(texts: Iterable[str]) -> dict[str, Pid]:
    """The pid of each identity that a published layout numbers: `7` and `0007` are one.

    Args:
        texts: digits, of all images that are compared with each other.
    Returns: int for all of them, or text for all where one number does not fit 64 bits.
    """
    distinct = set(texts)
    if all(fits(text) for text in distinct):
        return {text: int(text) for text in distinct}
    return {text: text.lstrip("0") or "0" for text in distinct}


def require_cameras_fit(name: str, source: object, cameras: Iterable[tuple[str, str]]) -> None:
    """Checks camera numbers.

    Args:
        name: the reader's name, for the message.
        source: the folder or file, for the message.
        cameras: of each image its name or place, and the digits of its camera.
    Raises: DatasetError: numbers that do not fit 64 bits (count, and the first three).
    """
    if large := [f"{place} (camera {digits})" for place, digits in cameras if not fits(digits)]:
        raise DatasetError(
            f"{name}: {len(large)} images of {source} have a camera number above {LARGEST}: {first_three(large)}. "
            "Number cameras in fewer digits."
        )

"""Identities and cameras as numbers, from the digits in file names, lists and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from svllreid.data.readers.layout import first_three
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Pid, Sample

# Identities and cameras are compared in arrays of 64-bit integers.
LARGEST = 2**63 - 1


def fits(digits: str) -> bool:
    """Whether a number, given as a text of digits, fits into 64 bits.

    >>> fits("0007"), fits("9" * 20)
    (True, False)
    """
    significant = digits.lstrip("0") or "0"
    return len(significant) <= len(str(LARGEST)) and int(significant) <= LARGEST


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image as its dataset labels it: a Sample whose identity is still text."""

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
    """The samples of train, query and gallery, in their order.

    Whether pids are int or text is decided for train alone, and for query and gallery together. So another test set
    does not change the pids that were trained on.

    Args:
        pids_of: makes the pid of each identity's text, such as `numbered`.
        train, query, gallery: the labelled images.
    """
    trained = pids_of(image.identity for image in train)
    tested = pids_of(image.identity for image in (*query, *gallery))

    def samples(images: Sequence[Labelled], pids: dict[str, Pid]) -> tuple[Sample, ...]:
        return tuple(Sample(image.path, pids[image.identity], image.camid, image.viewid) for image in images)

    return samples(train, trained), samples(query, tested), samples(gallery, tested)


def numbered(texts: Iterable[str]) -> dict[str, Pid]:
    """The pids of identities that a published dataset numbers: `7` and `0007` are the same one.

    >>> numbered(["7", "0007"])["0007"]
    7

    Args:
        texts: digits, of all images that are compared with each other.
    Returns: the pid of each text: int for all, or text for all if one number does not fit into 64 bits.
    """
    distinct = set(texts)
    if all(fits(text) for text in distinct):
        return {text: int(text) for text in distinct}
    return {text: text.lstrip("0") or "0" for text in distinct}


def require_cameras_fit(name: str, source: object, cameras: Iterable[tuple[str, str]]) -> None:
    """Checks that camera numbers fit into 64 bits.

    Args:
        name: the reader's name, for the message.
        source: the folder or file, for the message.
        cameras: for each image its name or line, and the digits of its camera.
    Raises: DatasetError: numbers do not fit; the message counts them and shows the first three.
    """
    if large := [f"{place} (camera {digits})" for place, digits in cameras if not fits(digits)]:
        raise DatasetError(
            f"{name}: {len(large)} images of {source} have a camera number above {LARGEST}: {first_three(large)}. "
            "Number cameras in fewer digits."
        )

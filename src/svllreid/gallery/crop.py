"""What a gallery stores of a crop, and what it answers: `Crop`, `Hit`, `AddReport`."""

from __future__ import annotations

import errno
import hashlib
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svllreid.errors import GalleryError
from svllreid.files import user_path
from svllreid.types import UNKNOWN, Pid

# The store has no empty numbers: this one, which no filter for times includes, stands for an unknown time.
NO_TIME = -1e30
MAX_BYTES = {"path": 4096, "pid": 512, "tracklet": 512, "tag": 256}
"""The longest text of each kind that is stored, in bytes of UTF-8."""
MAX_TAGS = 64
MAX_CODED_TAGS = MAX_TAGS * (2 * MAX_BYTES["tag"] + 1) + 1
TAG_END = ";"
"""What separates tags in a table."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop in a gallery: everything that is stored but its vector.

    Args:
        id: SHA-256 of its content: of the file, or of the pixels where an array or a PIL image was added.
        path: the image file; empty where there was none.
        pid: its identity, as it was given; None where it is unknown.
        camid: its camera; UNKNOWN (-1) where that is unknown.
        time: when it was taken, in seconds since 1970 (UTC); None where that is unknown.
        tracklet: the name of its tracklet, images of one person or vehicle in one pass by a camera; may be empty.
        tags: any texts, for filters.
        added: when it was added to the gallery, in seconds since 1970.
    Raises: GalleryError: a text is too long or not Unicode or no text, or there are more than MAX_TAGS tags.
    """

    id: str
    path: str = ""
    pid: Pid | None = None
    camid: int = UNKNOWN
    time: float | None = None
    tracklet: str = ""
    tags: tuple[str, ...] = ()
    added: float = 0.0

    def __post_init__(self) -> None:
        name = self.path or f"crop {self.id[:12]}"
        texts = [("path", self.path), ("pid", str(self.pid)), ("tracklet", self.tracklet)]
        for kind, text in [*texts, *(("tag", tag) for tag in self.tags)]:
            if not isinstance(text, str):
                raise GalleryError(f"{name}: its {kind} {text!r} is no text")
            try:
                length = len(text.encode())
            except UnicodeEncodeError:
                raise GalleryError(f"{name!a}: its {kind} {text!a} is not Unicode; rename it") from None
            if length > MAX_BYTES[kind]:
                raise GalleryError(f"{name}: its {kind} has {length} bytes, and {MAX_BYTES[kind]} are possible")
        if len(self.tags) > MAX_TAGS or any(not tag or TAG_END in tag for tag in self.tags):
            given = ", ".join(map(repr, self.tags[:3]))
            raise GalleryError(f"{name}: the tags {given} …; give {MAX_TAGS} at most, none empty or with {TAG_END!r}")

    def to_row(self, vector: np.ndarray) -> dict[str, Any]:
        """The crop and its vector (D,) as a row of the store."""
        return {
            "id": self.id,
            "vector": vector,
            "path": self.path,
            "pid": "" if self.pid is None else str(self.pid),
            "numeric": isinstance(self.pid, int),
            "camid": self.camid,
            "time": NO_TIME if self.time is None else self.time,
            "tracklet": self.tracklet,
            "tags": list(self.tags),
            "added": self.added,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Crop:
        """The crop of a row of the store."""
        pid: Pid | None = int(row["pid"]) if row["numeric"] else row["pid"] or None
        time = None if row["time"] == NO_TIME else float(row["time"])
        return cls(
            row["id"],
            row["path"],
            pid,
            int(row["camid"]),
            time,
            row["tracklet"],
            decoded_tags(row["tags"]) if isinstance(row["tags"], str) else tuple(row["tags"]),
            float(row["added"]),
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """A crop that a search found.

    Args:
        path, pid, camid, time, id, tracklet, tags: of the crop, see `Crop`.
        distance: Euclidean distance to the query (`svllreid.distances`), smaller is nearer.
        probability: that it shows the query's identity, by a calibration; None without one.
    """

    path: str
    pid: Pid | None
    camid: int
    time: float | None
    distance: float
    probability: float | None
    id: str
    tracklet: str
    tags: tuple[str, ...]

    @classmethod
    def of(cls, crop: Crop, distance: float, probability: float | None) -> Hit:
        """The hit that is this crop."""
        return cls(
            crop.path,
            crop.pid,
            crop.camid,
            crop.time,
            distance,
            probability,
            crop.id,
            crop.tracklet,
            crop.tags,
        )


@dataclass(frozen=True)
class AddReport:
    """What became of the images that were to be added.

    Args:
        added: images that were embedded and stored.
        present: images that were in the gallery before, or came twice.
        skipped: images that could not be read.
        updated: those of the present ones whose labels were replaced.
        differing: those of the present ones that have other labels in the gallery, which were kept.
        reasons: of each skipped image its path, or its index from 0, and why it was skipped.
    """

    added: int = 0
    present: int = 0
    skipped: int = 0
    updated: int = 0
    differing: int = 0
    reasons: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: AddReport) -> AddReport:
        return AddReport(
            self.added + other.added,
            self.present + other.present,
            self.skipped + other.skipped,
            self.updated + other.updated,
            self.differing + other.differing,
            self.reasons + other.reasons,
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content. OSError where it cannot be read."""
    if "\0" in str(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pixels_digest(pixels: np.ndarray) -> str:
    """SHA-256 of an array: of its values, type and shape."""
    digest = hashlib.sha256(f"{pixels.dtype.str}{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def stored_path(given: str | os.PathLike[str]) -> str:
    """A file's absolute path, as a gallery stores it: without `..`, unless a link makes that another file."""
    path = user_path(given).absolute()
    plain = Path(os.path.normpath(path))
    try:
        return str(plain if plain.parent.samefile(path.parent) else path)
    except (OSError, ValueError):  # the folder is gone, or impossible
        return str(plain)


def camera(camid: Any) -> int:
    """A camera's number; NumPy's become Python's. GalleryError for what is no whole number of 64 bits from -1."""
    try:
        number = operator.index(camid)
    except TypeError:
        number = None
    if number is None or not UNKNOWN <= number < 2**63:
        raise GalleryError(f"no camera is numbered {camid!r}; give camids as whole numbers from 0, and -1 for unknown")
    return number


def coded_tags(tags: Iterable[str]) -> str:
    """Tags as one text, each in hexadecimal digits between semicolons.

    Milvus Lite looks through lists row by row in Python, 0.05 ms each, but finds a part of a text a hundred times
    faster. The digits keep % and _ out of its patterns.

    >>> coded_tags(["a", "bc"]), coded_tags([])
    (';61;6263;', ';')
    """
    return TAG_END + "".join(tag.encode().hex() + TAG_END for tag in tags)


def decoded_tags(text: str) -> tuple[str, ...]:
    """The tags of a text that `coded_tags` made."""
    return tuple(bytes.fromhex(part).decode() for part in text.split(TAG_END) if part)


def clean_tags(tags: Iterable[str] | str | None) -> tuple[str, ...]:
    """Tags sorted and without repetition; of one text alone, those that semicolons separate.

    >>> clean_tags("night; entrance"), clean_tags(["b", "a", "b"])
    (('entrance', 'night'), ('a', 'b'))

    Raises: GalleryError: they are not texts.
    """
    if isinstance(tags, str):
        tags = [part.strip() for part in tags.split(TAG_END) if part.strip()]
    if tags is None:
        return ()
    tags = list(tags) if isinstance(tags, Iterable) else [tags]
    if not all(isinstance(tag, str) for tag in tags):
        raise GalleryError(f"the tags {tags!r} are not texts")
    return tuple(sorted(set(tags)))

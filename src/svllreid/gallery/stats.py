"""What a gallery holds, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from svllreid.embedding.contract import EmbeddingSpec
from svllreid.gallery.crop import Crop
from svllreid.gallery.record import GalleryRecord
from svllreid.types import Pid


@dataclass(frozen=True)
class GalleryStats:
    """What a gallery holds.

    Args:
        crops: number of crops.
        identities: number of known identities.
        unidentified: number of crops whose identity is unknown.
        cameras: number of crops by camera; -1 for unknown ones.
        tags: number of crops by tag.
        first, last: the earliest and the latest time of a crop, in seconds since 1970; None where none is known.
        spec: the record of the model and settings that made the vectors.
        index: the index that searches use.
        thumbnails: number of thumbnails.
        bytes: on disk, of a file and of thumbnails; None for a server, which does not say.
    """

    crops: int
    identities: int
    unidentified: int
    cameras: dict[int, int]
    tags: dict[str, int]
    first: float | None
    last: float | None
    spec: EmbeddingSpec
    index: str
    thumbnails: int
    bytes: int | None


def count_crops(crops: Iterable[Crop], record: GalleryRecord, thumbnails: int, size: int | None) -> GalleryStats:
    """Counts crops.

    Args:
        crops: of the gallery.
        record: what the gallery knows of itself.
        thumbnails: number of thumbnails.
        size: bytes on disk; None where they are unknown.
    """
    cameras, tags, pids, times, number, unknown = Counter[int](), Counter[str](), set[Pid](), list[float](), 0, 0
    for crop in crops:
        number += 1
        cameras[crop.camid] += 1
        tags.update(crop.tags)
        if crop.pid is None:
            unknown += 1
        else:
            pids.add(crop.pid)
        if crop.time is not None:
            times.append(crop.time)
    return GalleryStats(
        number,
        len(pids),
        unknown,
        dict(sorted(cameras.items())),
        dict(sorted(tags.items())),
        min(times, default=None),
        max(times, default=None),
        record.spec,
        record.index,
        thumbnails,
        size,
    )

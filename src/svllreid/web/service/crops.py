"""All crops of a gallery in memory, by id and by identity, so that lists and counts need no scan of the gallery."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from svllreid.errors import ReidError
from svllreid.gallery.crop import Crop
from svllreid.gallery.milvus import GalleryRecord
from svllreid.gallery.stats import GalleryStats, count_crops
from svllreid.types import UNKNOWN
from svllreid.web.service.records import IdentitySummary

logger = logging.getLogger(__name__)

_STALE = 60.0  # seconds after which a gallery that others may change too is read again


class Crops:
    """The crops of a gallery.

    Args:
        scan: gives all crops.
        shared: whether other processes may change the gallery, as those of a Milvus server.
    """

    def __init__(self, scan: Callable[[], Iterable[Crop]], *, shared: bool) -> None:
        self.scan, self.shared = scan, shared
        self.lock = threading.RLock()
        self.version = 0
        self.due = float("-inf")  # when the gallery is read next
        self.crops: dict[str, Crop] = {}
        self.by_pid: dict[str, set[str]] = {}
        self.counted: tuple[int, GalleryStats] | None = None
        self._refresh()

    def put(self, crops: Iterable[Crop]) -> None:
        """Remember crops, in the place of those with their ids."""
        with self.lock:
            for crop in crops:
                self._forget(crop.id)
                self.crops[crop.id] = crop
                if crop.pid is not None:
                    self.by_pid.setdefault(str(crop.pid), set()).add(crop.id)
            self.version += 1

    def drop(self, ids: Iterable[str]) -> None:
        """Forget crops."""
        with self.lock:
            for crop_id in ids:
                self._forget(crop_id)
            self.version += 1

    @contextmanager
    def following(self) -> Iterator[None]:
        """Around a change of the gallery and of these crops: where it fails half-way, the gallery is read again."""
        try:
            yield
        except BaseException:
            with self.lock:
                self.due = float("-inf")
            raise

    def get(self, crop_id: str) -> Crop | None:
        """A crop; None where it is not there."""
        with self.lock:
            self._refresh()
            return self.crops.get(crop_id)

    def all(self) -> list[Crop]:
        """All crops."""
        with self.lock:
            self._refresh()
            return list(self.crops.values())

    def of(self, pid: str) -> list[Crop]:
        """The crops of an identity, sorted by time and camera, those without a time last."""
        with self.lock:
            self._refresh()
            crops = [self.crops[crop_id] for crop_id in self.by_pid.get(pid, ())]
        return sorted(crops, key=_by_time)

    def has(self, pid: str) -> bool:
        """Whether an identity has crops."""
        with self.lock:
            self._refresh()
            return pid in self.by_pid

    def identities(self, contains: str, offset: int, limit: int) -> tuple[list[IdentitySummary], int]:
        """Some identities, sorted by name, and how many there are.

        Args:
            contains: only those with this text in their name, in upper or lower case.
            offset, limit: leave out so many, and return so many at most.
        """
        with self.lock:
            self._refresh()
            names = [pid for pid in self.by_pid if contains.casefold() in pid.casefold()]
            names.sort(key=_by_number)
            return [self._summary(pid) for pid in names[offset : offset + limit]], len(names)

    def stats(self, record: GalleryRecord) -> GalleryStats:
        """What the gallery holds, counted again after changes alone; without its size on the disk.

        Args:
            record: what the gallery knows of itself.
        """
        with self.lock:
            self._refresh()
            if self.counted is None or self.counted[0] != self.version:
                self.counted = (self.version, count_crops(self.crops.values(), record, 0, None))
            return self.counted[1]

    def fresh_name(self, base: str) -> str:
        """A name for a new identity that none has: base-2, base-3 …"""
        with self.lock:
            number = 2
            while f"{base}-{number}" in self.by_pid:
                number += 1
            return f"{base}-{number}"

    def _summary(self, pid: str) -> IdentitySummary:
        crops = self.of(pid)
        times = [crop.time for crop in crops if crop.time is not None]
        cameras = tuple(sorted({crop.camid for crop in crops} - {UNKNOWN}))
        return IdentitySummary(
            pid, len(crops), cameras, min(times, default=None), max(times, default=None), crops[0].id
        )

    def _forget(self, crop_id: str) -> None:
        crop = self.crops.pop(crop_id, None)
        if crop is None or crop.pid is None:
            return
        ids = self.by_pid[str(crop.pid)]
        ids.discard(crop_id)
        if not ids:
            del self.by_pid[str(crop.pid)]

    def _refresh(self) -> None:
        """Reads the gallery when it is due: at first, and again after a while if others may change it.

        Where it does not answer, what was read before is kept, and it is asked again after a while.
        """
        now = time.monotonic()
        if now < self.due:
            return
        try:
            crops = list(self.scan())
        except ReidError:
            if not self.version:
                raise
            logger.warning("the gallery cannot be read; its crops are shown as they were", exc_info=True)
            self.due = now + _STALE
            return
        self.due = now + _STALE if self.shared else float("inf")
        self.crops, self.by_pid = {}, {}
        self.put(crops)


def _by_time(crop: Crop) -> tuple[bool, float, int, str]:
    return crop.time is None, crop.time or 0.0, crop.camid, crop.id


def _by_number(pid: str) -> tuple[bool, int, str]:
    """Numbers first, by size, then names."""
    number = pid.isascii() and pid.isdigit() and len(pid) < 19
    return (not number, int(pid) if number else 0, pid.casefold())

"""Decoded and resized training images, kept in memory or in a file, each filled in when it is first asked for."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
from torch import Tensor

from svllreid.data.images import DECODING
from svllreid.errors import ConfigError, OutputError
from svllreid.files import NO_SPACE, file_stamp
from svllreid.machine import free_memory

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
CHECKSUM_BYTES = 8


class ImageCache:
    """Images by index, in memory that processes may share.

    An image counts as there when its checksum fits: neither a write in progress in another process nor one cut short
    by a crash is ever taken for an image. Processes that fill the same image write the same bytes.

    Args:
        pixels: (n, 3, H, W) uint8.
        checksums: (n,) int64, 0 where there is no image yet.
    """

    def __init__(self, pixels: Tensor, checksums: Tensor) -> None:
        self.pixels, self.checksums = pixels, checksums

    def get(self, index: int, make: Callable[[int], Tensor]) -> Tensor:
        """Image `index`, (3, H, W) uint8, not to be written to; `make` gives it where it is missing."""
        image = self.pixels[index]
        known = int(self.checksums[index])
        if not known or _checksum(image) != known:
            image.copy_(make(index))
            self.checksums[index] = _checksum(image)
        return image


class FileCache(ImageCache):
    """An ImageCache in a file of checksums, then pixels; a process it is sent to opens the file for itself."""

    def __init__(self, file: Path, count: int, size: tuple[int, int]) -> None:
        self.arguments = file, count, size
        content = np.memmap(file, np.uint8, "r+", shape=(_room(count, size),))
        checksums, pixels = np.split(content, [CHECKSUM_BYTES * count])
        super().__init__(torch.from_numpy(pixels).view(count, 3, *size), torch.from_numpy(checksums.view(np.int64)))

    def __reduce__(self) -> tuple[Any, ...]:
        return FileCache, self.arguments


@dataclass(frozen=True)
class CachePlan:
    """Where images are to be kept; takes no room before `open`.

    Args:
        kind: `memory` of this process and its workers, or `disk`, for later runs too.
        paths: of the images, in the dataset's order.
        size: height and width they are resized to.
        folder: where the file of `disk` goes.
        shared: whether worker processes use the memory.
        processes: training processes on this machine; each takes memory of its own, and all share the file.
    """

    kind: Literal["memory", "disk"]
    paths: tuple[Path, ...]
    size: tuple[int, int]
    folder: Path
    shared: bool
    processes: int = 1

    @cached_property
    def file(self) -> Path:
        """The file of `disk`, named after all its pixels hang on: another image, size or decoder is another file."""
        digest = hashlib.sha256(f"{DECODING} bicubic pillow {PIL.__version__}".encode())
        for path in self.paths:
            digest.update(b"\n" + file_stamp(path.absolute()))
        return self.folder / f"train_{self.size[0]}x{self.size[1]}_{digest.hexdigest()[:20]}.u8"

    @property
    def room(self) -> int:
        """Bytes in all."""
        return _room(len(self.paths), self.size)

    def check(self) -> None:
        """Refuse what cannot fit.

        Raises:
            ConfigError: more than the memory that is free.
            OutputError: more than the disk has left.
        """
        if self.kind == "disk":
            there = self.file.stat().st_size if self.file.is_file() else 0
            self._check_fits(self.room - there, shutil.disk_usage(_existing(self.folder)).free)
        else:
            free = _free_memory(self.shared)
            if free is None:
                logger.info("this system does not tell how much memory is free: %.1f GB are taken", self.room / 1e9)
            else:
                self._check_fits(self.processes * self.room, free)

    def open(self) -> ImageCache:
        """The cache, with what an earlier run has put into its file.

        Raises: ConfigError, OutputError: see `check`; the file cannot be written.
        """
        self.check()
        count = len(self.paths)
        if self.kind == "disk":
            _reserve(self.file, self.room)
            cache: ImageCache = FileCache(self.file, count, self.size)
            there = int(torch.count_nonzero(cache.checksums))
            logger.info("decoded images: %s, %.1f GB, %d of %d there", self.file, self.room / 1e9, there, count)
            return cache
        cache = ImageCache(torch.zeros(count, 3, *self.size, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
        if self.shared:
            cache.pixels.share_memory_()
            cache.checksums.share_memory_()
        logger.info("decoded images: %.1f GB of memory", self.room / 1e9)
        return cache

    def _check_fits(self, needed: int, free: int) -> None:
        if needed <= free:
            return
        height, width = self.size
        start = f"cached images: {len(self.paths)} of {height} x {width} pixels need {needed / 1e9:.1f} GB"
        if self.kind == "disk":
            raise OutputError(
                f"{start} and {self.folder} has {free / 1e9:.1f} left; free space, name another cache folder, or cache "
                "no images",
                settings=("cache folder", "image cache"),
            )
        where = f", or {SHARED_MEMORY} has no more," if self.shared else ""
        raise ConfigError(
            f"{start} of memory and {free / 1e9:.1f} are free{where}; cache them on disk or not at all",
            settings=("image cache",),
        )


def _checksum(image: Tensor) -> int:
    return zlib.crc32(image.numpy().data)


def _room(count: int, size: tuple[int, int]) -> int:
    return count * (CHECKSUM_BYTES + 3 * size[0] * size[1])


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _free_memory(shared: bool) -> int | None:
    """Bytes of memory to be had, None where the system does not tell; shared memory has a limit of its own."""
    limits = [] if (free := free_memory()) is None else [free]
    if shared and SHARED_MEMORY.is_dir():
        limits.append(shutil.disk_usage(SHARED_MEMORY).free)
    return min(limits, default=None)


def _reserve(file: Path, room: int) -> None:
    """Make the file and give it all its blocks, which leaves what is in it: a full disk would kill whoever fills it."""
    new = not file.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        with file.open("r+b") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, room)
            else:
                stream.truncate(room)
    except OSError as error:
        if new:
            with suppress(OSError):
                file.unlink()
        reason = "no space left" if error.errno in NO_SPACE else error.strerror
        raise OutputError(
            f"{file} could not be written: {reason}; it takes {room / 1e9:.1f} GB: name another cache folder, or cache "
            "no images",
            settings=("cache folder", "image cache"),
        ) from None

"""A cache of decoded and resized training images, in memory or in a file; images enter it when they are first used."""

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
    """Images by their index, in memory that several processes may share.

    A cached image is used only if its checksum matches. So one that another process is still writing, or that a crash
    left half written, is decoded again. Processes that write the same image write the same bytes.

    Args:
        pixels: (n, 3, H, W) uint8.
        checksums: (n,) int64, 0 for an image that is not cached yet.
    """

    def __init__(self, pixels: Tensor, checksums: Tensor) -> None:
        self.pixels, self.checksums = pixels, checksums

    def get(self, index: int, make: Callable[[int], Tensor]) -> Tensor:
        """The image at an index, (3, H, W) uint8; callers must not change it.

        Args:
            index: 0 to n - 1.
            make: decodes the image at an index; called if the cache does not hold it.
        """
        image = self.pixels[index]
        checksum = int(self.checksums[index])
        if not checksum or _checksum(image) != checksum:
            image.copy_(make(index))
            self.checksums[index] = _checksum(image)
        return image


class FileCache(ImageCache):
    """An ImageCache in a file, which holds all checksums and then all pixels.

    When it is sent to a worker process, the worker opens the file itself.

    Args:
        file: made beforehand, with room for all images.
        count: number of images.
        size: their height and width.
    """

    def __init__(self, file: Path, count: int, size: tuple[int, int]) -> None:
        self.arguments = file, count, size
        content = np.memmap(file, np.uint8, "r+", shape=(_num_bytes(count, size),))
        checksums, pixels = np.split(content, [CHECKSUM_BYTES * count])
        super().__init__(torch.from_numpy(pixels).view(count, 3, *size), torch.from_numpy(checksums.view(np.int64)))

    def __reduce__(self) -> tuple[Any, ...]:
        return FileCache, self.arguments


@dataclass(frozen=True)
class CacheSpec:
    """The settings of a cache. `check` tells whether it fits, and `open` makes it.

    Args:
        kind: `memory`, for this process and its workers; or `disk`, for later runs too.
        paths: the image files, in the dataset's order.
        size: height and width that images are resized to.
        folder: holds the file of a cache on disk.
        shared: whether worker processes use the memory.
        processes: training processes on this machine. Each has a memory cache of its own; a file is used by all.
    """

    kind: Literal["memory", "disk"]
    paths: tuple[Path, ...]
    size: tuple[int, int]
    folder: Path
    shared: bool
    processes: int = 1

    @cached_property
    def file(self) -> Path:
        """The file of a cache on disk. Its name has a digest of all that determines its pixels.

        So other images, another size or another version of the decoder get another file.
        """
        digest = hashlib.sha256(f"{DECODING} bicubic pillow {PIL.__version__}".encode())
        for path in self.paths:
            digest.update(b"\n" + file_stamp(path.absolute()))
        return self.folder / f"train_{self.size[0]}x{self.size[1]}_{digest.hexdigest()[:20]}.u8"

    @property
    def num_bytes(self) -> int:
        """Size of the cache in bytes."""
        return _num_bytes(len(self.paths), self.size)

    def check(self) -> None:
        """Checks that the cache fits into memory or onto the disk.

        Raises:
            ConfigError: it needs more memory than is free.
            OutputError: it needs more space than the disk has left.
        """
        if self.kind == "disk":
            present = self.file.stat().st_size if self.file.is_file() else 0
            self._check_fits(self.num_bytes - present, shutil.disk_usage(_existing(self.folder)).free)
        else:
            free = _free_memory(self.shared)
            if free is None:
                logger.info("this system does not tell how much memory is free: %.1f GB are used", self.num_bytes / 1e9)
            else:
                self._check_fits(self.processes * self.num_bytes, free)

    def open(self) -> ImageCache:
        """Makes the cache; one on disk keeps the images of earlier runs.

        Raises:
            ConfigError, OutputError: as `check`.
            OutputError: the file cannot be written.
        """
        self.check()
        count = len(self.paths)
        if self.kind == "disk":
            _reserve(self.file, self.num_bytes)
            cache: ImageCache = FileCache(self.file, count, self.size)
            cached = int(torch.count_nonzero(cache.checksums))
            logger.info("decoded images: %s, %.1f GB, %d of %d present", self.file, self.num_bytes / 1e9, cached, count)
            return cache
        cache = ImageCache(torch.zeros(count, 3, *self.size, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
        if self.shared:
            cache.pixels.share_memory_()
            cache.checksums.share_memory_()
        logger.info("decoded images: %.1f GB of memory", self.num_bytes / 1e9)
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


def _num_bytes(count: int, size: tuple[int, int]) -> int:
    return count * (CHECKSUM_BYTES + 3 * size[0] * size[1])


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _free_memory(shared: bool) -> int | None:
    """Free memory in bytes, None if it is not known; memory shared between processes has a limit of its own."""
    limits = [] if (free := free_memory()) is None else [free]
    if shared and SHARED_MEMORY.is_dir():
        limits.append(shutil.disk_usage(SHARED_MEMORY).free)
    return min(limits, default=None)


def _reserve(file: Path, num_bytes: int) -> None:
    """Makes the file, or extends it, with all its disk blocks allocated; its content stays.

    Without the blocks, writing to the mapped file on a full disk would kill the process.
    """
    new = not file.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        with file.open("r+b") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, num_bytes)
            else:
                stream.truncate(num_bytes)
    except OSError as error:
        if new:
            with suppress(OSError):
                file.unlink()
        reason = "no space left" if error.errno in NO_SPACE else error.strerror
        raise OutputError(
            f"{file} could not be written: {reason}; it takes {num_bytes / 1e9:.1f} GB: name another cache folder, or "
            "cache no images",
            settings=("cache folder", "image cache"),
        ) from None

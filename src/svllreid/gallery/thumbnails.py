"""Small pictures of a gallery's crops, in a folder beside it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path

from PIL import Image

from svllreid.errors import OutputError
from svllreid.files import atomic_write

SIZE = (128, 256)
"""Largest width and height of a thumbnail, in pixels."""


class Thumbnails:
    """A folder of thumbnails: `ab/ab12….jpg` is that of the crop whose id begins with ab12.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, crop_id: str) -> Path:
        """The file of a crop's thumbnail, whether it is there or not."""
        return self.folder / crop_id[:2] / f"{crop_id}.jpg"

    def save(self, crop_id: str, image: Image.Image) -> None:
        """Write the thumbnail of an RGB image. OutputError where that fails."""
        small = image.copy()
        small.thumbnail(SIZE)
        with atomic_write(self.path(crop_id)) as temporary:
            small.save(temporary, format="JPEG", quality=85)

    def remove(self, crop_ids: Iterable[str]) -> None:
        """Delete the thumbnails of some crops. OutputError where that fails."""
        for crop_id in crop_ids:
            _delete(self.path(crop_id))

    def remove_others(self, kept: Container[str]) -> int:
        """Delete the thumbnails of all crops but these; returns how many there were."""
        others = [file for file in self.folder.glob("??/*.jpg") if file.stem not in kept]
        for file in others:
            _delete(file)
        return len(others)

    def size(self) -> tuple[int, int]:
        """How many thumbnails there are, and their bytes."""
        sizes = file_sizes(self.folder.glob("??/*.jpg"))
        return len(sizes), sum(sizes)


def file_sizes(files: Iterable[Path]) -> list[int]:
    """The bytes of files, without those that are deleted meanwhile."""
    sizes = []
    for file in files:
        with suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return sizes


def _delete(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"the thumbnail {file} cannot be deleted ({error.strerror or error}); make its folder writable, then give "
            "the same command again"
        ) from None

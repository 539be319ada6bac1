"""Small pictures of a gallery's crops, in a folder beside it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path

from PIL import Image

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
        """Delete the thumbnails of some crops."""
        for crop_id in crop_ids:
            self.path(crop_id).unlink(missing_ok=True)

    def remove_others(self, kept: Container[str]) -> int:
        """Delete the thumbnails of all crops but these; returns how many there were."""
        others = [file for file in self.folder.glob("??/*.jpg") if file.stem not in kept]
        for file in others:
            file.unlink()
        return len(others)

    def size(self) -> tuple[int, int]:
        """How many thumbnails there are, and their bytes."""
        sizes = [file.stat().st_size for file in self.folder.glob("??/*.jpg")]
        return len(sizes), sum(sizes)

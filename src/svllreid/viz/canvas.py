"""A page of framed pictures and lines of text, which the other pictures are made of."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from svllreid.files import atomic_write

INK, PAPER = "#222222", "#ffffff"
FRAME, GAP, LINE = 4, 8, 18
TOP = 2 * LINE + GAP  # where the first row starts, below the title


class Canvas:
    """A white page with a title.

    Args:
        height, width: in pixels; a title that needs more width gets it.
        title: the line on top.
    """

    def __init__(self, height: int, width: int, title: str) -> None:
        font = ImageFont.load_default(size=14)
        self.image = Image.new("RGB", (max(width, 2 * GAP + math.ceil(font.getlength(title))), height), PAPER)
        self.draw, self.font = ImageDraw.Draw(self.image), ImageFont.load_default(size=12)
        self.draw.text((GAP, GAP), title, fill=INK, font=font)

    def write(self, text: str, left: int, top: int) -> None:
        """A line of text."""
        self.draw.text((left, top), text, fill=INK, font=self.font)

    def put(self, picture: Image.Image, left: int, top: int, frame: str = PAPER) -> None:
        """A picture inside a frame of FRAME pixels, whose corner is given."""
        right, bottom = left + picture.width + 2 * FRAME - 1, top + picture.height + 2 * FRAME - 1
        self.draw.rectangle((left, top, right, bottom), fill=frame)
        self.image.paste(picture, (left + FRAME, top + FRAME))

    def save(self, path: Path) -> None:
        """Write a PNG file beside and rename it.

        Raises: OutputError: it cannot be written.
        """
        with atomic_write(path) as temporary:
            # Photographs hardly compress: a higher level takes several times as long for a few per cent.
            self.image.save(temporary, format="PNG", compress_level=1)

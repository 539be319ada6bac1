"""A page with framed pictures and lines of text, on which rank list and contact sheet are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from svllreid.files import atomic_write

INK, PAPER = "#222222", "#ffffff"
FRAME, GAP, LINE = 4, 8, 18
TOP = 2 * LINE + GAP  # y of the first row, below the title


class Canvas:
    """A white page with a title.

    Args:
        height, width: of the page in pixels; it gets wider if the title or the captions need it.
        title: the line at the top.
        captions: lines of text that begin at the left.
    """

    def __init__(self, height: int, width: int, title: str, captions: Sequence[str] = ()) -> None:
        font = ImageFont.load_default(size=14)
        lines = [line for text in (title, *captions) for line in text.split("\n")]
        longest = max(map(font.getlength, lines))
        self.image = Image.new("RGB", (max(width, 2 * GAP + math.ceil(longest)), height), PAPER)
        self.draw, self.font = ImageDraw.Draw(self.image), ImageFont.load_default(size=12)
        self.draw.text((GAP, GAP), title, fill=INK, font=font)

    def write(self, text: str, left: int, top: int) -> None:
        """Writes a line of text."""
        self.draw.text((left, top), text, fill=INK, font=self.font)

    def put(self, picture: Image.Image, left: int, top: int, frame: str = PAPER) -> None:
        """Draws a picture in a frame of FRAME pixels; `left` and `top` are the frame's corner."""
        right, bottom = left + picture.width + 2 * FRAME - 1, top + picture.height + 2 * FRAME - 1
        self.draw.rectangle((left, top, right, bottom), fill=frame)
        self.image.paste(picture, (left + FRAME, top + FRAME))

    def save(self, path: Path) -> None:
        """Writes the page as a PNG file, atomically.

        Raises: OutputError: the file cannot be written.
        """
        with atomic_write(path) as temporary:
            # A higher level takes several times as long and makes photographs only a few per cent smaller.
            self.image.save(temporary, format="PNG", compress_level=1)

"""The picture after a test: queries with their nearest gallery images, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from svllreid.files import write_beside
from svllreid.types import Sample

RIGHT, WRONG, QUERY, INK, PAPER = "#2a9d4a", "#d1343b", "#2f5fb3", "#222222", "#ffffff"
FRAME, GAP = 4, 8


def draw_ranklist(
    path: Path,
    queries: Sequence[Sample],
    gallery: Sequence[Sample],
    nearest: Sequence[Sequence[int]],
    captions: Sequence[str],
    title: str,
    size: tuple[int, int] = (128, 64),
) -> None:
    """One row per query: the query, then its nearest gallery images, framed green where right and red where wrong.

    Args:
        path: PNG file, written beside and renamed.
        queries: one per row.
        gallery: where `nearest` points to.
        nearest: gallery indices of each query, nearest first; -1 where there are no more.
        captions: a line above each row.
        title: the line on top.
        size: height and width of each image.
    """
    height, width = size
    columns = max((len(row) for row in nearest), default=0)
    cell, line = width + 2 * FRAME + GAP, 18
    row_height = line + height + 2 * FRAME + GAP
    page = Image.new("RGB", (3 * GAP + (columns + 1) * cell, 2 * line + GAP + row_height * len(queries)), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=12)
    draw.text((GAP, GAP), title, fill=INK, font=ImageFont.load_default(size=14))
    for row, (query, neighbours) in enumerate(zip(queries, nearest, strict=True)):
        top = 2 * line + GAP + row * row_height
        draw.text((GAP, top), captions[row], fill=INK, font=font)
        cells = [(query, QUERY)] + [
            (gallery[index], RIGHT if gallery[index].pid == query.pid else WRONG) for index in neighbours if index >= 0
        ]
        for column, (sample, colour) in enumerate(cells):
            left = GAP + column * cell + (GAP if column else 0)
            _framed(page, draw, sample.path, colour, left, top + line, (width, height))
    with write_beside(path) as temporary:
        page.save(temporary, format="PNG")


def _framed(
    page: Image.Image, draw: ImageDraw.ImageDraw, path: Path, colour: str, left: int, top: int, size: tuple[int, int]
) -> None:
    width, height = size
    draw.rectangle((left, top, left + width + 2 * FRAME - 1, top + height + 2 * FRAME - 1), fill=colour)
    with Image.open(path) as image:
        page.paste(image.convert("RGB").resize((width, height)), (left + FRAME, top + FRAME))

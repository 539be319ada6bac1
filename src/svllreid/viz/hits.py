"""The picture of a search: each query with the crops that were found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from svllreid.viz.canvas import FRAME, GAP, LINE, TOP, Canvas

QUERY, HIT = "#2f5fb3", "#9aa0a6"
LINES = 3  # of text below a hit


def draw_hits(
    path: Path,
    rows: Sequence[tuple[Sequence[Image.Image], Sequence[tuple[Image.Image | None, Sequence[str]]]]],
    captions: Sequence[str],
    title: str,
    size: tuple[int, int] = (128, 96),
) -> None:
    """Draws a row for each query: its images, framed blue, then the hits with lines of text below each.

    Args:
        path: the PNG file to write.
        rows: of each query its images, and the image of each hit with its lines of text, LINES at most; None draws an
            empty frame.
        captions: a line of text above each row.
        title: the line at the top.
        size: height and width of the space for an image; images keep their proportions.
    Raises: OutputError: the file cannot be written.
    """
    height, width = size
    cell = width + 2 * FRAME + GAP
    row_height = (1 + LINES) * LINE + height + 2 * FRAME + GAP
    columns = max(len(queries) + len(hits) for queries, hits in rows)
    page = Canvas(TOP + row_height * len(rows), 3 * GAP + columns * cell, title, captions)
    for row, (queries, hits) in enumerate(rows):
        top = TOP + row * row_height
        page.write(captions[row], GAP, top)
        cells = [(query, (), QUERY) for query in queries] + [(picture, lines, HIT) for picture, lines in hits]
        for column, (picture, lines, colour) in enumerate(cells):
            left = GAP + column * cell + (GAP if column >= len(queries) else 0)
            page.put(_fitted(picture, width, height), left, top + LINE, colour)
            for number, text in enumerate(lines):
                page.write(text, left, top + LINE + height + 2 * FRAME + number * LINE)
    page.save(path)


def _fitted(picture: Image.Image | None, width: int, height: int) -> Image.Image:
    if picture is None:
        return Image.new("RGB", (width, height), "#eeeeee")
    return ImageOps.pad(picture, (width, height), color="#ffffff")

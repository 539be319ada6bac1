"""The picture after a test: queries with their nearest gallery images, the worst first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from svllreid.types import Sample
from svllreid.viz.canvas import FRAME, GAP, LINE, TOP, Canvas

RIGHT, WRONG, QUERY = "#2a9d4a", "#d1343b", "#2f5fb3"


def draw_ranklist(
    path: Path,
    queries: Sequence[Sample],
    gallery: Sequence[Sample],
    nearest: Sequence[Sequence[int]],
    captions: Sequence[str],
    title: str,
    open_image: Callable[[Path], Image.Image],
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
        open_image: decodes a file to RGB.
        size: height and width of each image.
    Raises: OutputError: the file cannot be written; and whatever `open_image` raises.
    """
    height, width = size
    columns = max((len(row) for row in nearest), default=0)
    cell = width + 2 * FRAME + GAP
    row_height = LINE + height + 2 * FRAME + GAP
    page = Canvas(TOP + row_height * len(queries), 3 * GAP + (columns + 1) * cell, title)
    for row, (query, neighbours) in enumerate(zip(queries, nearest, strict=True)):
        top = TOP + row * row_height
        page.write(captions[row], GAP, top)
        cells = [(query, QUERY)] + [
            (gallery[index], RIGHT if gallery[index].pid == query.pid else WRONG) for index in neighbours if index >= 0
        ]
        for column, (sample, colour) in enumerate(cells):
            left = GAP + column * cell + (GAP if column else 0)
            page.put(open_image(sample.path).resize((width, height)), left, top + LINE, colour)
    page.save(path)

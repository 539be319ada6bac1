"""The rank list: a picture of queries with their nearest gallery images."""

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
    """Draws a row for each query: the query, then its nearest gallery images.

    Images of the query's identity have a green frame, others a red one.

    Args:
        path: the PNG file to write.
        queries: a query for each row.
        gallery: the gallery images.
        nearest: for each query the indices of its nearest gallery images, nearest first; -1 fills up a row.
        captions: a line of text above each row.
        title: the line at the top.
        open_image: decodes a file to RGB.
        size: height and width of each image.
    Raises:
        OutputError: the file cannot be written.
        Exception: anything that `open_image` raises.
    """
    height, width = size
    columns = max((len(row) for row in nearest), default=0)
    cell = width + 2 * FRAME + GAP
    row_height = LINE + height + 2 * FRAME + GAP
    page = Canvas(TOP + row_height * len(queries), 3 * GAP + (columns + 1) * cell, title, captions)
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

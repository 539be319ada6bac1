"""A picture of one cluster: its images in rows, with a caption below each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from svllreid.errors import ImageError
from svllreid.viz.canvas import FRAME, GAP, LINE, TOP, Canvas

_GONE = "#bbbbbb"


def draw_cluster(
    path: Path,
    images: Sequence[tuple[Path, str]],
    title: str,
    open_image: Callable[[Path], Image.Image],
    size: tuple[int, int] = (128, 64),
    columns: int = 12,
) -> int:
    """Draws the images of a cluster in rows, with a caption below each.

    Args:
        path: the PNG file to write.
        images: file and caption of each image, in the order in which they are drawn. A caption may have several lines.
        title: the line at the top.
        open_image: decodes a file to RGB. If it raises an ImageError, a grey field is drawn instead.
        size: height and width of the space for an image; images keep their proportions.
        columns: number of images in a row.
    Returns: the number of images that could not be read.
    Raises: OutputError: the file cannot be written.
    """
    height, width = size
    lines = 1 + max(caption.count("\n") for _, caption in images)
    cell, line = width + 2 * FRAME + GAP, height + 2 * FRAME + LINE * lines + GAP
    rows = -(-len(images) // columns)
    page, unread = Canvas(TOP + line * rows, 2 * GAP + cell * min(columns, len(images)), title), 0
    for place, (file, caption) in enumerate(images):
        row, column = divmod(place, columns)
        left, top = GAP + column * cell, TOP + row * line
        try:
            picture = ImageOps.contain(open_image(file), (width, height))
        except ImageError:
            picture, unread = Image.new("RGB", (width, height), _GONE), unread + 1
        page.put(picture, left, top + height - picture.height)
        page.write(caption, left, top + height + 2 * FRAME)
    page.save(path)
    return unread

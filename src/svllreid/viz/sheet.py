"""A contact sheet of a dataset: some identities, each with images of several cameras."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from PIL import Image, ImageOps

from svllreid.types import UNKNOWN, Pid, Sample, Splits
from svllreid.viz.canvas import FRAME, GAP, LINE, TOP, Canvas


def choose(splits: Splits, seed: int = 0, identities: int = 12, images: int = 8) -> list[list[Sample]]:
    """Chooses random samples for a sheet from the training split, or from query and gallery if that is empty.

    Args:
        splits: the dataset, as its reader returns it.
        seed: decides which samples are chosen.
        identities: the largest number of identities.
        images: the largest number of images of an identity; they are taken from its cameras in turn.
    Returns: a list of samples for each identity, in order of camera; identities are sorted.
    """
    by_pid: dict[Pid, list[Sample]] = {}
    # `dict.fromkeys` removes duplicates, since own data may list an image both in query and in gallery.
    for sample in splits.train or dict.fromkeys(splits.query + splits.gallery):
        by_pid.setdefault(sample.pid, []).append(sample)
    generator = random.Random(seed)
    drawn = generator.sample(sorted(by_pid), min(identities, len(by_pid)))
    return [_spread(by_pid[pid], images, generator) for pid in sorted(drawn)]


def draw_sheet(
    path: Path,
    rows: Sequence[Sequence[Sample]],
    title: str,
    open_image: Callable[[Path], Image.Image],
    size: tuple[int, int] = (128, 96),
) -> None:
    """Draws a row of images for each identity, with its pid above them and the camid below each.

    Args:
        path: the PNG file to write.
        rows: the samples of each identity.
        title: the line at the top.
        open_image: decodes a file to RGB.
        size: height and width of the space for an image; images keep their proportions.
    Raises:
        OutputError: the file cannot be written.
        Exception: anything that `open_image` raises.
    """
    height, width = size
    cell = width + 2 * FRAME + GAP
    row_height = 2 * LINE + height + 2 * FRAME + 2 * GAP
    captions = [f"identity {samples[0].pid}" for samples in rows]
    page = Canvas(TOP + row_height * len(rows), 2 * GAP + cell * max(map(len, rows), default=0), title, captions)
    for row, samples in enumerate(rows):
        top = TOP + row * row_height
        page.write(captions[row], GAP, top)
        for column, sample in enumerate(samples):
            left = GAP + column * cell
            picture = ImageOps.contain(open_image(sample.path), (width, height))
            page.put(picture, left, top + LINE + height - picture.height)
            camera = "unknown" if sample.camid == UNKNOWN else sample.camid
            page.write(f"camid {camera}", left, top + LINE + height + 2 * FRAME)
    page.save(path)


def _spread(samples: Sequence[Sample], count: int, generator: random.Random) -> list[Sample]:
    cameras: dict[int, list[Sample]] = {}
    for sample in generator.sample(samples, len(samples)):
        cameras.setdefault(sample.camid, []).append(sample)
    in_turn = [sample for sample in chain(*zip_longest(*cameras.values())) if sample is not None]
    return sorted(in_turn[:count], key=lambda sample: (sample.camid, sample.path))

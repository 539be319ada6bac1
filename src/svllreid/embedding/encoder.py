"""Images to features, for search, tracking and export."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from svllreid.data.images import AnyImage, ChannelOrder, any_image
from svllreid.data.readers.layout import first_three
from svllreid.embedding.contract import Embedder, EmbeddingSpec
from svllreid.embedding.loop import embed
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Batch, SideRows


class FeatureEncoder:
    """A trained model that turns images into features.

    Args:
        embedder: the model with the settings that its features depend on.
        transform: image to tensor, as the embedder wants them.
        side_rows: which cameras and viewpoints the rows of the embedder's side information stand for.
        batch_size: images at once.
    """

    def __init__(
        self,
        embedder: Embedder,
        transform: Callable[[Image.Image], Tensor],
        side_rows: SideRows,
        *,
        batch_size: int = 64,
    ) -> None:
        self.embedder, self.transform, self.side_rows = embedder, transform, side_rows
        self.batch_size, self.device = batch_size, embedder.device

    @property
    def spec(self) -> EmbeddingSpec:
        """Which model and settings the features are of: keep it with them, and compare only features of one spec."""
        return self.embedder.spec

    def encode(
        self,
        images: AnyImage | Iterable[AnyImage],
        camids: int | Iterable[int] | None = None,
        viewids: int | Iterable[int] | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
    ) -> np.ndarray:
        """Features (n, D) float32 of n images, (1, D) of one; L2-normalised unless the model's configuration says no.

        `svllreid test` compares the same features, by Euclidean distance: see `svllreid.distances`.

        Args:
            images: one image, or several in a sequence, an array (n, H, W, C) or a generator, of which a batch at a
                time is kept in memory. An image is a path, a PIL image or an array (H, W), (H, W, 1), (H, W, 3) or
                (H, W, 4) with alpha last: uint8, uint16 (0 to 65535) or float (0 to 1).
            camids, viewids: camera and viewpoint of each image, numbered as in the training set, or one number for all;
                -1 where unknown; None: all unknown.
            channel_order: `bgr` for arrays as OpenCV reads them; files and PIL images know their own.
        Raises:
            DatasetError: an image that cannot be used, named by its path or its index from 0; ids that do not fit the
                images or the trained table.
            EvaluationError: features that are NaN or infinite.
        """
        if channel_order not in get_args(ChannelOrder):
            raise DatasetError(f"channel_order is {channel_order!r}; give 'rgb' or 'bgr'")
        source, rows, spec = _several(images), self.side_rows, self.spec
        ids = {
            "camids": _ids("camids", camids, rows.camera, rows.cameras if spec.sie_camera else None),
            "viewids": _ids("viewids", viewids, rows.view, rows.views if spec.sie_view else None),
        }
        if isinstance(source, Sized):
            _check_numbers(ids, len(source))
        return embed(self.embedder, self._batches(source, ids, channel_order)).vectors.numpy()

    def _batches(
        self, images: Iterable[Any], ids: Mapping[str, int | list[int]], channel_order: ChannelOrder
    ) -> Iterator[Batch]:
        """The images, transformed, a batch at a time, with their ids."""
        start, unread = 0, iter(images)
        while chunk := list(islice(unread, self.batch_size)):
            end = start + len(chunk)
            _check_numbers(ids, end, more_may_come=True)
            camids, viewids = (
                torch.tensor([one] * len(chunk) if isinstance(one, int) else one[start:end]) for one in ids.values()
            )
            pixels = [
                self.transform(any_image(image, f"image {index}", channel_order))
                for index, image in enumerate(chunk, start)
            ]
            yield Batch(torch.stack(pixels), torch.full_like(camids, UNKNOWN), camids, viewids)
            start = end
        _check_numbers(ids, start)


def _several(images: AnyImage | Iterable[AnyImage]) -> Iterable[Any]:
    """The images one by one, where it is a single one too; what is no image is refused where it is opened."""
    if isinstance(images, np.ndarray):
        alone = images.ndim in (0, 2, 3)
    else:
        alone = isinstance(images, str | bytes | os.PathLike | Image.Image) or not isinstance(images, Iterable)
    return [images] if alone else images  # type: ignore[return-value]  # `alone` tells the two apart


def _ids(
    name: str, given: int | Iterable[int] | None, row: Callable[[int], int], known: Sequence[int] | None
) -> int | list[int]:
    """Rows of cameras or viewpoints in the trained table: a number for all images, or a list with one of each.

    Args:
        name: what they are, for messages.
        given: as `encode` takes them.
        row: the row of a number that the dataset gives; -1 where it has none.
        known: the numbers that the trained table has; None where the model uses none.
    Raises: DatasetError: ids that are no whole numbers, or that the table does not have.
    """
    if given is None:
        return UNKNOWN
    # Arrays and tensors are iterable even where they are one number.
    for_each = isinstance(given, Iterable) and getattr(given, "ndim", 1) > 0
    each: list[Any] = list(given) if for_each else [given]  # type: ignore[arg-type]  # mypy does not follow for_each
    if wrong := [value for value in each if not _is_whole(value)]:
        raise DatasetError(f"{name} {wrong[0]!r} is no whole number; give numbers from 0, and -1 for unknown")
    values = [int(value) for value in each]
    strange = [value for value in values if known is not None and value not in (UNKNOWN, *known)]
    if strange:
        raise DatasetError(
            f"{name} {strange[0]} is none of those the model was trained with ({first_three(known or ())}); give -1 "
            "for unknown"
        )
    rows = [row(value) for value in values]
    return rows if for_each else rows[0]


def _is_whole(value: Any) -> bool:
    try:
        return bool(int(value) == value)
    except (TypeError, ValueError, OverflowError):
        return False


def _check_numbers(ids: Mapping[str, int | list[int]], images: int, *, more_may_come: bool = False) -> None:
    """DatasetError where lists of ids are shorter than the images, or longer and no more images come."""
    for name, values in ids.items():
        if isinstance(values, int):
            continue
        if len(values) < images or (len(values) > images and not more_may_come):
            more = " or more" if more_may_come else ""
            raise DatasetError(
                f"{images}{more} images but {len(values)} {name}; give one for each image, or one number for all"
            )

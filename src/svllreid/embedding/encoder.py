"""`FeatureEncoder`, the base of `svllreid.Encoder`: paths, PIL images and arrays to features."""

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
        embedder: the model with all settings that its features depend on.
        transform: takes an image and returns the tensor (3, H, W) that the embedder expects.
        side_rows: the row of the embedder's side information that belongs to each camera and viewpoint.
        batch_size: number of images that are embedded at once.
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
        """The record of the model and settings that make the features.

        Save it with the features, and compare only features whose records have equal fingerprints.
        """
        return self.embedder.spec

    def encode(
        self,
        images: AnyImage | Iterable[AnyImage],
        camids: int | Iterable[int] | None = None,
        viewids: int | Iterable[int] | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
    ) -> np.ndarray:
        """Features (n, D) float32 of n images; (1, D) of a single one.

        They are L2-normalised unless the model's configuration switches that off. `svllreid test` compares the same
        features, by Euclidean distance (`svllreid.distances`).

        Args:
            images: one image, or several in a sequence, a generator or an array (n, H, W, C). Of a generator one batch
                at a time is kept in memory. An image is a path, a PIL image or an array (H, W), (H, W, 1), (H, W, 3) or
                (H, W, 4) with alpha last: uint8, uint16 (0 to 65535) or float (0 to 1).
            camids, viewids: camera and viewpoint of each image, numbered as in the training set, or one number for all
                images; -1 where unknown. None: all are unknown.
            channel_order: order of the colours in arrays: `rgb`, or `bgr` as OpenCV reads them. Files and PIL images
                record their own order.
        Raises:
            DatasetError: an image cannot be used (the message has its path, or its index from 0), or the ids do not fit
                the images or the cameras and viewpoints of training.
            EvaluationError: features are NaN or infinite.
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
        """Batches of the transformed images with their rows of the side information."""
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
    """The images as an iterable, also where a single one is given; values that are no images are refused later."""
    if isinstance(images, np.ndarray):
        alone = images.ndim in (0, 2, 3)
    else:
        alone = isinstance(images, str | bytes | os.PathLike | Image.Image) or not isinstance(images, Iterable)
    return [images] if alone else images  # type: ignore[return-value]  # `alone` tells the two apart


def _ids(
    name: str, given: int | Iterable[int] | None, row: Callable[[int], int], known: Sequence[int] | None
) -> int | list[int]:
    """Rows of the side information for cameras or viewpoints: one number for all images, or a list with one for each.

    Args:
        name: `camids` or `viewids`, for messages.
        given: the argument of `encode`.
        row: returns the row of a camera or viewpoint; -1 where it has none.
        known: the cameras or viewpoints that have a row; None where the model does not use them.
    Raises: DatasetError: ids that are no whole numbers, or that have no row.
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
    """Check that each list of ids has one for each image.

    Args:
        ids: by name, one number for all images or a list.
        images: number of images so far.
        more_may_come: whether there may be more images, so that longer lists are no fault yet.
    Raises: DatasetError: a list is too short or too long.
    """
    for name, values in ids.items():
        if isinstance(values, int):
            continue
        if len(values) < images or (len(values) > images and not more_may_come):
            more = " or more" if more_may_come else ""
            raise DatasetError(
                f"{images}{more} images but {len(values)} {name}; give one for each image, or one number for all"
            )

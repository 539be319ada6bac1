"""`FeatureEncoder`, the base of `svllreid.Encoder`: paths, PIL images and arrays to features."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from svllreid.arguments import whole_number
from svllreid.data.images import AnyImage, ChannelOrder, any_image
from svllreid.data.readers.layout import first_three
from svllreid.embedding.contract import Embedder, EmbeddingSpec
from svllreid.embedding.decoding import decoded_batches
from svllreid.embedding.loop import check_finite, embed_batch
from svllreid.errors import ConfigError, DatasetError, ImageError
from svllreid.types import UNKNOWN, Batch, SideRows

OnError = Literal["raise", "skip"]
CPU_BATCH, GPU_BATCH = 64, 256


class FeatureEncoder:
    """A trained model that turns images into features.

    Images are decoded and resized in threads, ahead of the network.

    Args:
        embedder: the model with all settings that its features depend on.
        resize: takes an image and returns the tensor (3, H, W) uint8 that the embedder expects.
        side_rows: the row of the embedder's side information that belongs to each camera and viewpoint.
        batch_size: number of images that are embedded at once; None: 64, on a GPU 256, and fewer where its memory ends.
    Raises: ConfigError: batch_size is no whole number of at least 1.
    """

    def __init__(
        self,
        embedder: Embedder,
        resize: Callable[[Image.Image], Tensor],
        side_rows: SideRows,
        *,
        batch_size: int | None = None,
    ) -> None:
        self.embedder, self.resize, self.side_rows = embedder, resize, side_rows
        self.device = embedder.device
        usual = GPU_BATCH if self.device.type == "cuda" else CPU_BATCH
        self.batch_size = usual if batch_size is None else whole_number(batch_size, "batch_size", ConfigError)

    @property
    def spec(self) -> EmbeddingSpec:
        """The record of the model and settings that make the features.

        Save it with the features, and compare only features whose records have equal fingerprints.
        """
        return self.embedder.spec

    @overload
    def encode(
        self,
        images: AnyImage | Iterable[AnyImage],
        camids: int | Iterable[int] | None = None,
        viewids: int | Iterable[int] | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
        on_error: Literal["raise"] = "raise",
    ) -> np.ndarray: ...

    @overload
    def encode(
        self,
        images: AnyImage | Iterable[AnyImage],
        camids: int | Iterable[int] | None = None,
        viewids: int | Iterable[int] | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
        on_error: Literal["skip"],
    ) -> tuple[np.ndarray, list[int]]: ...

    def encode(
        self,
        images: AnyImage | Iterable[AnyImage],
        camids: int | Iterable[int] | None = None,
        viewids: int | Iterable[int] | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
        on_error: OnError = "raise",
    ) -> np.ndarray | tuple[np.ndarray, list[int]]:
        """Features (n, D) float32 of n images; (1, D) of a single one.

        They are L2-normalised unless the model's configuration switches that off. `svllreid test` compares the same
        features, by Euclidean distance (`svllreid.distances`).

        Args:
            images: one image, or several in a sequence, a generator or an array (n, H, W, C). Of a generator three
                batches at most are kept in memory. An image is a path, a PIL image or an array (H, W), (H, W, 1),
                (H, W, 3) or (H, W, 4) with alpha last: uint8, uint16 (0 to 65535) or float (0 to 1).
            camids, viewids: camera and viewpoint of each image, numbered as in the training set, or one number for all
                images; -1 where unknown. None: all are unknown.
            channel_order: order of the colours in arrays: `rgb`, or `bgr` as OpenCV reads them. Files and PIL images
                record their own order.
            on_error: what to do about images that cannot be read: `raise` an error, or `skip` them.
        Returns: the features; with `skip` also the indices, from 0, of the images that were left out.
        Raises:
            DatasetError: an image cannot be used (the message has its path, or its index from 0), or the ids do not fit
                the images or the cameras and viewpoints of training.
            EvaluationError: features are NaN or infinite.
        """
        skipped: list[int] = []
        blocks = self.encode_stream(
            images,  # type: ignore[arg-type]  # one image alone is taken too
            camids,
            viewids,
            channel_order=channel_order,
            on_error=on_error,
            on_skip=lambda index, error: skipped.append(index),
        )
        parts = [features for _, features in blocks]
        features = np.concatenate(parts) if parts else np.empty((0, self.embedder.dim), np.float32)
        return features if on_error == "raise" else (features, skipped)

    def encode_stream(
        self,
        images: Iterable[AnyImage],
        camids: int | Iterable[int] | None = None,
        viewids: int | Iterable[int] | None = None,
        *,
        channel_order: ChannelOrder = "rgb",
        on_error: OnError = "raise",
        on_skip: Callable[[int, ImageError], None] | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features block by block, for more images than fit into memory.

        At most three batches of images are in memory at once, whatever the number of images.

        Args:
            images, camids, viewids, channel_order, on_error: see `encode`. Ids may be given one by one too, by a
                generator, as the images are.
            on_skip: called with the index of each image that is skipped, and its error.
        Returns: an iterator of blocks: the indices (b,) int64 of some images, counted from 0, and their features
            (b, D) float32. Indices that are missing are those of images that were skipped.
        Raises: see `encode`; an error comes when its block is asked for.
        """
        for name, value, choices in (("channel_order", channel_order, ChannelOrder), ("on_error", on_error, OnError)):
            if value not in get_args(choices):
                raise DatasetError(f"{name} is {value!r}; give {' or '.join(map(repr, get_args(choices)))}")
        source, rows, spec = several(images), self.side_rows, self.spec
        ids = (
            Ids("camids", camids, rows.camera, rows.cameras if spec.sie_camera else None),
            Ids("viewids", viewids, rows.view, rows.views if spec.sie_view else None),
        )
        if isinstance(source, Sized):
            for one in ids:
                one.check_number(len(source))

        def decode(index: int, image: Any) -> Tensor | DatasetError:
            try:
                return self.resize(any_image(image, f"image {index}", channel_order))
            except DatasetError as error:
                return error

        count = 0
        for first, decoded in decoded_batches(source, decode, self.batch_size):
            count = first + len(decoded)
            camera_rows, view_rows = (torch.tensor(one.take(len(decoded))) for one in ids)
            for number, result in enumerate(decoded):
                if isinstance(result, DatasetError):
                    if on_error == "raise" or not isinstance(result, ImageError):
                        raise result
                    if on_skip is not None:
                        on_skip(first + number, result)
            good = [number for number, result in enumerate(decoded) if isinstance(result, Tensor)]
            if not good:
                continue
            pixels = torch.stack([decoded[number] for number in good])
            if self.device.type == "cuda":
                pixels = pixels.pin_memory()
            unknown = torch.full((len(good),), UNKNOWN)
            batch = Batch(pixels, unknown, camera_rows[good], view_rows[good])
            features, indices = embed_batch(self.embedder, batch), torch.tensor(good) + first
            check_finite(features, indices, self.embedder)
            yield indices.numpy(), features.numpy()
        for one in ids:
            one.check_number(count, all_taken=True)


class Ids:
    """Rows of the side information for the cameras, or viewpoints, of images that come one batch after the other.

    Args:
        name: `camids` or `viewids`, for messages.
        given: the argument of `encode`: one number for all images, or one for each.
        row: returns the row of a camera or viewpoint; -1 where it has none.
        known: the cameras or viewpoints that have a row; None where the model does not use them.
    Raises: DatasetError: ids that are no whole numbers, or that have no row.
    """

    def __init__(
        self, name: str, given: int | Iterable[int] | None, row: Callable[[int], int], known: Sequence[int] | None
    ) -> None:
        self.name, self.row, self.known = name, row, known
        self.taken, self.for_all, self.number = 0, UNKNOWN, None
        # Arrays and tensors are iterable even where they are one number.
        self.for_each = isinstance(given, Iterable) and getattr(given, "ndim", 1) > 0
        if isinstance(given, Iterable) and self.for_each:
            values = list(given) if isinstance(given, Sized) else None
            self.number = None if values is None else len(values)
            self.rows = iter([self._row(value) for value in values]) if values is not None else map(self._row, given)
        elif given is not None:
            self.for_all = self._row(given)

    def _row(self, value: Any) -> int:
        if not _is_whole(value):
            raise DatasetError(f"{self.name} {value!r} is no whole number; give numbers from 0, and -1 for unknown")
        value = int(value)
        if self.known is not None and value not in (UNKNOWN, *self.known):
            raise DatasetError(
                f"{self.name} {value} is none of those the model was trained with ({first_three(self.known)}); give -1 "
                "for unknown"
            )
        return self.row(value)

    def take(self, count: int) -> list[int]:
        """The rows of the next images. DatasetError where there are not as many ids."""
        if not self.for_each:
            return [self.for_all] * count
        rows = list(islice(self.rows, count))
        self.taken += len(rows)
        if len(rows) < count:
            raise DatasetError(
                f"{self.taken - len(rows) + count} or more images but {self.taken} {self.name}; give one for each "
                "image, or one number for all"
            )
        return rows

    def check_number(self, images: int, *, all_taken: bool = False) -> None:
        """Check that there is an id for each image. DatasetError where there are fewer, or more.

        Args:
            images: number of images.
            all_taken: whether the ids of all images have been taken, so that a generator must have ended.
        """
        number = self.number
        if self.for_each and number is None and all_taken and next(self.rows, None) is not None:
            number = self.taken + 1
        if self.for_each and number is not None and number != images:
            raise DatasetError(
                f"{images} images but {number} {self.name}; give one for each image, or one number for all"
            )


def several(images: AnyImage | Iterable[AnyImage]) -> Iterable[Any]:
    """The images as an iterable, also where a single one is given; values that are no images are refused later."""
    if isinstance(images, np.ndarray):
        alone = images.ndim in (0, 2, 3)
    else:
        alone = isinstance(images, str | bytes | os.PathLike | Image.Image) or not isinstance(images, Iterable)
    return [images] if alone else images  # type: ignore[return-value]  # `alone` tells the two apart


def _is_whole(value: Any) -> bool:
    try:
        return bool(int(value) == value)
    except (TypeError, ValueError, OverflowError):
        return False

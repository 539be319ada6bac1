"""PyTorch datasets: the images of a split as tensors with their labels, cameras and viewpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from svllreid.data.cache import ImageCache
from svllreid.data.images import open_image
from svllreid.errors import ImageError
from svllreid.types import Pid, Sample, SideRows

UNLABELLED = -1


def training_labels(samples: Sequence[Sample]) -> dict[Pid, int]:
    """The label of each pid: 0 to N - 1 for N identities, in sorted order of their pids.

    >>> from pathlib import Path
    >>> training_labels([Sample(Path("a.jpg"), 7), Sample(Path("b.jpg"), 2), Sample(Path("c.jpg"), 7)])
    {2: 0, 7: 1}
    """
    return {pid: label for label, pid in enumerate(sorted({sample.pid for sample in samples}))}


class Transform(Protocol):
    """What turns a training image into tensors, in two steps: the first can be cached, the second is random."""

    def resize(self, image: Image.Image) -> Tensor:
        """The image as a (3, H, W) uint8 tensor; the same for every epoch."""

    def augment(self, pixels: Tensor, seed: int) -> tuple[Tensor, ...]:
        """The tensors that a batch takes of a resized image; the same seed gives the same tensors."""


class TrainDataset(Dataset[Any]):
    """Training images with labels. An item is asked for by (index, seed), so no random draw depends on the worker.

    An item is (tensors of the transform, label, camera row, viewpoint row). An image that cannot be decoded gives an
    ImageError as the item: raised in a worker process, it would reach the user as a traceback.

    Args:
        samples: the training split.
        labels: the label of each pid, see `training_labels`.
        transform: resizes an image, then makes the tensors of the image and its augmented copies.
        cache: keeps resized images; None decodes an image each time.
        side_rows: the side information's rows of cameras and viewpoints; None makes a row for each that `samples` have.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: dict[Pid, int],
        transform: Transform,
        cache: ImageCache | None = None,
        side_rows: SideRows | None = None,
    ) -> None:
        self.samples, self.labels, self.transform, self.cache = samples, labels, transform, cache
        self.side_rows = SideRows.of(samples) if side_rows is None else side_rows

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[tuple[Tensor, ...], int, int, int] | ImageError:
        index, seed = key
        sample = self.samples[index]
        try:
            pixels = self._resized(index) if self.cache is None else self.cache.get(index, self._resized)
        except ImageError as error:
            return error
        rows = self.side_rows.camera(sample.camid), self.side_rows.view(sample.viewid)
        return self.transform.augment(pixels, seed), self.labels[sample.pid], *rows

    def _resized(self, index: int) -> Tensor:
        return self.transform.resize(open_image(self.samples[index].path))


class ImageDataset(Dataset[Any]):
    """Images to be embedded, in the order of the samples. Items are as those of TrainDataset, labels UNLABELLED (-1).

    Args:
        samples: a split.
        transform: turns an image into a tensor.
        side_rows: the rows that the embedding model has for cameras and viewpoints; None: without side information.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Callable[[Image.Image], Tensor],
        side_rows: SideRows | None = None,
    ) -> None:
        self.samples, self.transform, self.side_rows = samples, transform, side_rows or SideRows()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, ...], int, int, int] | ImageError:
        sample = self.samples[index]
        try:
            image = open_image(sample.path)
        except ImageError as error:
            return error
        rows = self.side_rows.camera(sample.camid), self.side_rows.view(sample.viewid)
        return (self.transform(image),), UNLABELLED, *rows

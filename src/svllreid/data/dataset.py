"""Samples as batches: labels, and loading in worker processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from svllreid.data.cache import ImageCache
from svllreid.data.images import open_image
from svllreid.errors import ImageError
from svllreid.types import Batch, Pid, Sample, SideRows

UNLABELLED = -1


def readable(
    samples: Sequence[Sample], progress: Callable[[int], None] | None = None
) -> tuple[list[Sample], list[str]]:
    """The samples whose images decode, and a line about each of the others."""
    kept, faults = [], []
    with ThreadPoolExecutor(min(len(samples) or 1, os.cpu_count() or 1)) as pool:  # decoding leaves Python's lock
        for sample, fault in zip(samples, pool.map(_fault, samples), strict=True):
            if fault is None:
                kept.append(sample)
            else:
                faults.append(fault)
            if progress is not None:
                progress(1)
    return kept, faults


def _fault(sample: Sample) -> str | None:
    """What is wrong with an image, None if nothing is."""
    try:
        open_image(sample.path)
    except ImageError as error:
        return str(error)
    return None


def label_of(samples: Sequence[Sample]) -> dict[Pid, int]:
    """Contiguous training labels 0..N-1 of the identities in sorted order."""
    return {pid: label for label, pid in enumerate(sorted({sample.pid for sample in samples}))}


class Transform(Protocol):
    """From a decoded image to what a batch takes of it."""

    def resize(self, image: Image.Image) -> Tensor:
        """(3, H, W) uint8, the part that can be cached."""

    def vary(self, pixels: Tensor, seed: int) -> tuple[Tensor, ...]:
        """The tensors of a resized image; the same seed gives the same ones."""


class TrainDataset(Dataset[Any]):
    """Training images; an item is asked for by (index, seed), so that no draw hangs on a worker.

    Args:
        samples: the training split.
        labels: of each pid.
        transform: resizes, then makes the tensors of the image and its augmented copies.
        cache: where resized images are kept; None decodes each anew.
        side_rows: where cameras and viewpoints stand in the side information; None: a row for each of the samples'.
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
            return error  # raised where the batch arrives: a worker's exception would arrive as a traceback
        rows = self.side_rows.camera(sample.camid), self.side_rows.view(sample.viewid)
        return self.transform.vary(pixels, seed), self.labels[sample.pid], *rows

    def _resized(self, index: int) -> Tensor:
        return self.transform.resize(open_image(self.samples[index].path))


class ImageDataset(Dataset[Any]):
    """Images to be embedded, in their order.

    Args:
        samples: a split.
        transform: image to tensor.
        side_rows: of the model that embeds them; None: without side information.
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


def collate(items: Sequence[Any], kind: Callable[..., Any] = Batch) -> Any:
    """A batch of items, or the first ImageError among them.

    Args:
        items: of a dataset here.
        kind: makes the batch of the images (B, …), labels, camids and viewids (B,), and what else the items hold.
    """
    for item in items:
        if isinstance(item, ImageError):
            return item
    images, labels, camids, viewids = zip(*items, strict=True)
    stacked = [torch.stack(copies) for copies in zip(*images, strict=True)]
    numbers = (torch.tensor(column, dtype=torch.int64) for column in (labels, camids, viewids))
    return kind(stacked[0], *numbers, *stacked[1:])


def batches(loader: Iterable[Any]) -> Iterator[Any]:
    """The loader's batches; raises the ImageError of a batch that could not be made."""
    for batch in loader:
        if isinstance(batch, ImageError):
            raise batch
        yield batch


def loader(
    dataset: Dataset[Any], *, workers: int, pin: bool, kind: Callable[..., Any] = Batch, **sampling: Any
) -> DataLoader[Any]:
    """A DataLoader over either dataset; `kind` as in `collate`, `sampling` is batch_sampler or batch_size."""
    return DataLoader(
        dataset,
        collate_fn=partial(collate, kind=kind),
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
        worker_init_fn=_leave_interrupts if workers else None,
        **sampling,
    )


def _leave_interrupts(worker: int) -> None:
    """Signals may reach every process of a group: the main one decides when the workers end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def raw_pixels(samples: Sequence[Sample], size: tuple[int, int] = (128, 64)) -> Tensor:
    """The images themselves as features (n, 3 * H * W), L2-normalised: what a method must beat."""
    height, width = size
    rows = [
        np.asarray(open_image(sample.path).resize((width, height), Image.Resampling.BILINEAR)) for sample in samples
    ]
    return F.normalize(torch.from_numpy(np.stack(rows)).flatten(1).float(), dim=1)

"""Batches from datasets: collating, loading in worker processes, and errors that name the broken image."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from svllreid.errors import ImageError
from svllreid.types import Batch


def make_loader(
    dataset: Dataset[Any], *, workers: int, pin: bool, batch_type: Callable[..., Any] = Batch, **sampling: Any
) -> DataLoader[Any]:
    """A DataLoader over a dataset of `svllreid.data.datasets`; iterate it with `batches`.

    Args:
        dataset: whose items are batched.
        workers: processes that load; 0 loads in this process.
        pin: whether batches are put into pinned memory, which a GPU copies from faster.
        batch_type: the type of a batch, see `collate`.
        sampling: `batch_sampler` or `batch_size`, as DataLoader takes them.
    """
    return DataLoader(
        dataset,
        collate_fn=partial(collate, batch_type=batch_type),
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
        worker_init_fn=_ignore_signals if workers else None,
        **sampling,
    )


def batches(loader: Iterable[Any]) -> Iterator[Any]:
    """Iterates over a loader's batches.

    Raises: ImageError: an image of the next batch cannot be decoded.
    """
    for batch in loader:
        if isinstance(batch, ImageError):
            raise batch
        yield batch


def collate(items: Sequence[Any], batch_type: Callable[..., Any] = Batch) -> Any:
    """Stacks the items of a dataset into a batch, or returns the first ImageError among them.

    Args:
        items: of a dataset of `svllreid.data.datasets`.
        batch_type: called with the first tensor of all items (B, …), labels, camids and viewids (B,) int64, and
            the further tensors of all items.
    """
    for item in items:
        if isinstance(item, ImageError):
            return item
    images, labels, camids, viewids = zip(*items, strict=True)
    stacked = [torch.stack(copies) for copies in zip(*images, strict=True)]
    numbers = (torch.tensor(column, dtype=torch.int64) for column in (labels, camids, viewids))
    return batch_type(stacked[0], *numbers, *stacked[1:])


def _ignore_signals(worker: int) -> None:
    """Makes a worker ignore SIGINT and SIGTERM, which reach all processes of a terminal.

    The main process needs the workers' batches to finish its step, and ends the workers itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

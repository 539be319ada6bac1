"""Distance matrices in blocks of rows, with threads and progress for those who read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch

ProgressCallback = Callable[[int, int], None]

# A distance matrix up to this size is kept for a second reading; a larger one is computed again.
KEPT_BYTES = {"cpu": 1 << 30, "cuda": 8 << 30}


def in_threads(
    work: Callable[[Any], Any], items: Sequence[Any], after: Callable[[Any], None] | None = None
) -> list[Any]:
    """Call `work` with every item, in as many threads as PyTorch uses, and return the results in order.

    Threads help because NumPy's heavy calls release the interpreter's lock.

    Args:
        work: called with one item, in any thread.
        items: the items.
        after: called with each item in order, in the caller's thread, when its result is there.
    """
    results = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for item, result in zip(items, pool.map(work, items), strict=True):
            results.append(result)
            if after is not None:
                after(item)
    return results


class ProgressCounter:
    """Counts finished units of work and reports them to a callback.

    Args:
        callback: called as `callback(done, total)`; None reports nothing.
        total: number of units of the whole job.
    """

    def __init__(self, callback: ProgressCallback | None, total: int) -> None:
        self.callback, self.total, self.done = callback, total, 0

    def add(self, units: int) -> None:
        """Count `units` more as done and report."""
        self.done += units
        if self.callback is not None:
            self.callback(self.done, self.total)


class RowSource(Protocol):
    """Computes rows of a distance matrix (Nq, Ng); `PairwiseDistances` and `Reranker` do so."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def block_rows(self) -> int:
        """The number of query rows of a block of the usual size."""

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """The distances (stop − start, Ng) of queries start..stop; the next call may overwrite them."""


class DistanceBlocks:
    """Iterates over a distance matrix as pairs of first query and block of rows (n, Ng), as often as needed.

    A block must not be changed, and is valid only until the next one is taken.

    Args:
        source: computes the rows.
        keep: whether to keep the matrix for further iterations, if it takes at most KEPT_BYTES. Otherwise each
            iteration computes it again.
        block_rows: number of query rows of a block; None takes the source's.
    """

    def __init__(self, source: RowSource, *, keep: bool = False, block_rows: int | None = None) -> None:
        self.source, self.step = source, block_rows or source.block_rows()
        rows, columns = source.shape
        size = rows * columns * source.dtype.itemsize
        self.kept: torch.Tensor | None = None
        self.rows_kept = 0
        if keep and size <= KEPT_BYTES.get(source.device.type, KEPT_BYTES["cpu"]):
            self.kept = torch.empty(source.shape, dtype=source.dtype, device=source.device)

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        for start in range(0, self.source.shape[0], self.step):
            stop = min(start + self.step, self.source.shape[0])
            if self.kept is None:
                yield start, self.source.rows(start, stop)
                continue
            if stop > self.rows_kept:
                self.kept[start:stop] = self.source.rows(start, stop)
                self.rows_kept = stop
            yield start, self.kept[start:stop]

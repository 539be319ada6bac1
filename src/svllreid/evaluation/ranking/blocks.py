"""Distance rows in blocks: computed once where the matrix fits into memory, read by whoever needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch

ProgressCallback = Callable[[int, int], None]

# A distance matrix up to this size is kept for a second reading, a larger one is computed again.
KEPT_BYTES = {"cpu": 1 << 30, "cuda": 8 << 30}


def in_threads(
    work: Callable[[Any], Any], items: Sequence[Any], after: Callable[[Any], None] | None = None
) -> list[Any]:
    """`work` of every item, in as many threads as torch uses (NumPy's heavy calls let the others run); then `after`."""
    results = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for item, result in zip(items, pool.map(work, items), strict=True):
            results.append(result)
            if after is not None:
                after(item)
    return results


class ProgressCounter:
    """Counts finished work and tells a callback.

    Args:
        callback: called as `callback(done, total)`; None says nothing.
        total: units of the whole job.
    """

    def __init__(self, callback: ProgressCallback | None, total: int) -> None:
        self.callback, self.total, self.done = callback, total, 0

    def add(self, units: int) -> None:
        """Report `units` more as done."""
        self.done += units
        if self.callback is not None:
            self.callback(self.done, self.total)


class RowSource(Protocol):
    """Computes rows of a distance matrix: `PairwiseDistances`, or re-ranked ones."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def block_rows(self) -> int:
        """Query rows of a block of the usual size."""

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Distances (stop − start, Ng) of queries start..stop; the next call may overwrite them."""


class DistanceBlocks:
    """The distance matrix as (first query, block of rows) pairs, which can be iterated over several times.

    Whoever reads a block leaves it as it is. A block is valid until the next one is asked for.

    Args:
        source: computes the rows.
        keep: keep the matrix for further iterations where it takes at most KEPT_BYTES; otherwise it is computed again.
        block_rows: query rows of a block; None: as the source chooses.
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

"""Sparse matrices in compressed row form, as re-ranking needs them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RowBlock = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Some rows of a sparse matrix: the number of entries of each row (n,), and the columns and values of all entries."""


class SparseRows(NamedTuple):
    """A sparse matrix by rows: row i has the entries starts[i]..starts[i + 1] of `columns` and `values`.

    Args:
        starts: (rows + 1,) int64.
        columns, values: (entries,) int64 and float32.
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entries of `rows` (n,), one row after the other.

        Returns: two arrays with a number for each entry: its row as an index into `rows`, and its place in `columns`
            and `values`.
        """
        counts = self.starts[rows + 1] - self.starts[rows]
        first = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(self.starts[rows] - first, counts)
        return np.repeat(np.arange(len(rows)), counts), places


def stacked(blocks: list[RowBlock]) -> SparseRows:
    """One matrix from blocks of its rows, in their order.

    Example:
        >>> import numpy as np
        >>> rows = stacked([(np.array([2]), np.array([0, 3]), np.ones(2)), (np.array([1]), np.array([1]), np.ones(1))])
        >>> rows.starts.tolist(), rows.columns.tolist()
        ([0, 2, 3], [0, 3, 1])
    """
    counts, columns, values = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return SparseRows(np.concatenate([[0], np.cumsum(counts)]), columns, values)

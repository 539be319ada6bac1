"""The neighbourhoods of k-reciprocal re-ranking on a GPU: what `neighbourhoods` computes with NumPy, with torch.

Source: Zhong et al., CVPR 2017, arXiv:1701.08398.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from svllreid.evaluation.ranking.blocks import ProgressCounter
from svllreid.evaluation.ranking.neighbours import Neighbours

_DENSE_NUMBERS = 1 << 27  # of dense rows (n, N) at once
_PAIRS = 1 << 26  # of images with a column in common at once
_FEATURE_NUMBERS = 1 << 27  # of features that are subtracted at once


class SparseTensorRows(NamedTuple):
    """A sparse matrix by rows: entries starts[i] to starts[i + 1] are those of row i.

    Args:
        starts: (rows + 1,) int64.
        columns: (entries,) int64, ascending in each row.
        values: (entries,) float32.
    """

    starts: Tensor
    columns: Tensor
    values: Tensor

    @classmethod
    def of(cls, parts: list[tuple[Tensor, Tensor, Tensor]]) -> SparseTensorRows:
        """From blocks of rows: the number of entries of each row, and the entries' columns and values."""
        counts, columns, values = (torch.cat(part) for part in zip(*parts, strict=True))
        return cls(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), columns, values)

    def entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of some rows (n,), one row after the other: which of the n each is of, and its place."""
        counts = self.starts[rows + 1] - self.starts[rows]
        owner = torch.repeat_interleave(counts)
        first = counts.cumsum(0) - counts
        return owner, torch.arange(len(owner), device=rows.device) + (self.starts[rows] - first)[owner]


class GpuNeighbourhoods:
    """As `Neighbourhoods`, on the device of the neighbours.

    Args:
        neighbours, num_queries, k1, k2, counter: see `Neighbourhoods`.
    """

    def __init__(self, neighbours: Neighbours, num_queries: int, k1: int, k2: int, counter: ProgressCounter) -> None:
        self.features, self.indices = neighbours.features, neighbours.indices
        self.near, self.largest = neighbours.near, neighbours.largest
        self.count, self.num_queries, self.counter = len(self.features), num_queries, counter
        self.wide, self.narrow = self._reciprocal(k1), self._reciprocal(round(k1 / 2))
        vectors = SparseTensorRows.of([self._encode(rows) for rows in self._blocks()])
        if k2 > 1:
            vectors = SparseTensorRows.of([self._average(vectors, rows, k2) for rows in self._blocks()])
        self._invert(vectors)

    def _blocks(self) -> Iterator[Tensor]:
        """The numbers of all images, in blocks whose dense rows (n, N) fit into memory."""
        yield from torch.arange(self.count, device=self.features.device).split(max(1, _DENSE_NUMBERS // self.count))

    def _reciprocal(self, k: int) -> Tensor:
        """(N, k + 1) bool: which of the k + 1 nearest of each image have that image among theirs."""
        nearest = self.indices[:, : k + 1]
        step = max(1, _DENSE_NUMBERS // nearest.shape[1] ** 2)
        parts = torch.arange(self.count, device=nearest.device).split(step)
        return torch.cat([(nearest[nearest[rows]] == rows[:, None, None]).any(dim=2) for rows in parts])

    def _encode(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of V: weights of each image over its expanded reciprocal set, each row summing to 1."""
        wide = self.wide[rows]  # (n, k1 + 1)
        near = self.indices[rows, : wide.shape[1]]
        inside = torch.zeros(len(rows), self.count, dtype=torch.bool, device=rows.device)
        inside.scatter_(1, near, wide)
        members = self.indices[near, : self.narrow.shape[1]]  # (n, k1 + 1, k1 / 2 + 1)
        valid = self.narrow[near] & wide[:, :, None]
        common = (inside.gather(1, members.flatten(1)).view_as(valid) & valid).sum(dim=2)
        valid &= (3 * common > 2 * valid.sum(dim=2))[:, :, None]
        line = torch.arange(len(rows), device=rows.device)[:, None, None] * self.count
        inside.view(-1)[(members + line)[valid]] = True
        owner, columns = inside.nonzero(as_tuple=True)
        distances = self.near.new_full(inside.shape, torch.nan)
        distances.scatter_(1, self.indices[rows], self.near[rows])
        weights = (-self._filled(distances[owner, columns], rows[owner], columns)).exp()
        self.counter.add(len(rows))
        sums = weights.new_zeros(len(rows)).index_add_(0, owner, weights)
        return torch.bincount(owner, minlength=len(rows)), columns, weights / sums[owner]

    def _filled(self, distances: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The normalised distances (n,) of pairs of images, those that are NaN computed."""
        for part in distances.isnan().nonzero()[:, 0].split(max(1, _FEATURE_NUMBERS // self.features.shape[1])):
            gap = self.features[rows[part]] - self.features[columns[part]]
            distances[part] = gap.square().sum(dim=1) / self.largest[rows[part]]
        return distances

    def _average(self, vectors: SparseTensorRows, rows: Tensor, k2: int) -> tuple[Tensor, Tensor, Tensor]:
        """Each row becomes the mean over the rows of its first k2 neighbours."""
        nearest = self.indices[rows, :k2]
        owner, places = vectors.entries(nearest.flatten())
        dense = vectors.values.new_zeros(len(rows), self.count)
        cells = owner // nearest.shape[1] * self.count + vectors.columns[places]
        dense.view(-1).index_add_(0, cells, vectors.values[places])
        owner, columns = dense.nonzero(as_tuple=True)
        return torch.bincount(owner, minlength=len(rows)), columns, dense[owner, columns] / nearest.shape[1]

    def _invert(self, vectors: SparseTensorRows) -> None:
        """Keep the queries' rows as they are, and those of the gallery by column."""
        starts, columns, values = vectors
        cut = int(starts[self.num_queries])
        self.queries = SparseTensorRows(starts[: self.num_queries + 1], columns[:cut], values[:cut])
        images = torch.repeat_interleave(starts[self.num_queries :].diff())
        order = columns[cut:].argsort(stable=True)
        counts = torch.bincount(columns[cut:], minlength=self.count)
        self.holders = SparseTensorRows.of([(counts, images[order], values[cut:][order])])

    def common(self, start: int, stop: int) -> Tensor:
        """Σ min(V_i, V_j) of queries start to stop with every gallery image, (stop − start, Ng) float32."""
        device, num_gallery = self.features.device, self.count - self.num_queries
        result = torch.zeros((stop - start) * num_gallery, device=device)
        owner, places = self.queries.entries(torch.arange(start, stop, device=device))
        columns, values = self.queries.columns[places], self.queries.values[places]
        sizes = self.holders.starts[columns + 1] - self.holders.starts[columns]
        chunk = sizes.cumsum(0) // _PAIRS
        for part in torch.arange(len(columns), device=device).split(torch.bincount(chunk).tolist()):
            entry, holder = self.holders.entries(columns[part])
            least = torch.minimum(values[part][entry], self.holders.values[holder])
            result.index_add_(0, owner[part][entry] * num_gallery + self.holders.columns[holder], least)
        return result.view(stop - start, num_gallery)

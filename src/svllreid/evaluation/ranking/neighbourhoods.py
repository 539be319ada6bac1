"""The neighbourhoods of k-reciprocal re-ranking on a CPU, with sparse vectors and threads.

Source: Zhong et al., CVPR 2017, arXiv:1701.08398.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from svllreid.evaluation.ranking.blocks import ProgressCounter, in_threads
from svllreid.evaluation.ranking.neighbours import Neighbours
from svllreid.evaluation.ranking.sparse import RowBlock, SparseRows, stacked

_BLOCK_NUMBERS = 1 << 21
_CHUNK_PAIRS = 1 << 16
_CACHE_NUMBERS = 1 << 18  # so many stay in a core's cache


class Neighbourhoods:
    """The averaged vectors V of all images, and what two images have in common in them.

    Memory: some hundred numbers for each image.

    Args:
        neighbours: of all images, the queries first.
        num_queries: how many of the images are queries.
        k1, k2: see `RerankOptions`.
        counter: counts one unit for each image.
        first_gallery: the first gallery image; None: the one after the last query. With all images as queries, 0
            compares them with themselves.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        num_queries: int,
        k1: int,
        k2: int,
        counter: ProgressCounter,
        *,
        first_gallery: int | None = None,
    ) -> None:
        self.features, self.indices, self.near, self.largest = (
            values.cpu().numpy()
            for values in (neighbours.features, neighbours.indices, neighbours.near, neighbours.largest)
        )
        self.num_queries, self.count, self.k2 = num_queries, len(self.features), k2
        self.first_gallery = num_queries if first_gallery is None else first_gallery
        self.wide, self.narrow = self._reciprocal(k1), self._reciprocal(round(k1 / 2))
        vectors = stacked(in_threads(self._encode, self._blocks(self.count), lambda rows: counter.add(len(rows))))
        self._invert(self._average(vectors) if k2 > 1 else vectors)

    def common(self, start: int, stop: int) -> torch.Tensor:
        """Σ min(V_i, V_j) of the queries start..stop with every gallery image, (stop − start, Ng) float32."""
        result = torch.zeros((stop - start, self.count - self.first_gallery))
        step = max(1, _CACHE_NUMBERS // result.shape[1])
        parts = list(zip(range(start, stop, step), result.split(step), strict=True))
        in_threads(lambda part: self._add_common(*part), parts)
        return result

    def _blocks(self, numbers_a_row: int) -> list[np.ndarray]:
        """The numbers of all images (N,) in blocks, so small that `numbers_a_row` for each image take little memory."""
        step = max(1, _BLOCK_NUMBERS // numbers_a_row)
        return [np.arange(start, min(start + step, self.count)) for start in range(0, self.count, step)]

    def _reciprocal(self, k: int) -> np.ndarray:
        """Which of the k + 1 nearest neighbours of each image have that image among theirs: (N, k + 1) bool."""
        nearest = self.indices[:, : k + 1]
        result = np.empty(nearest.shape, bool)

        def work(rows: np.ndarray) -> None:
            result[rows] = (nearest[nearest[rows]] == rows[:, None, None]).any(axis=2)

        in_threads(work, self._blocks(nearest.shape[1] ** 2))
        return result

    def _encode(self, rows: np.ndarray) -> RowBlock:
        """Rows of the matrix V: the weights of each image's expanded reciprocal neighbours, which sum to 1."""
        wide = self.wide[rows]  # (n, k1 + 1)
        near = self.indices[rows, : wide.shape[1]]
        line = np.arange(len(rows))[:, None] * self.count
        inside, listed = np.zeros((2, len(rows) * self.count), bool)
        inside[(line + near)[wide]] = True
        valid = self.narrow[near] & wide[:, :, None]  # (n, k1 + 1, k1 / 2 + 1)
        members = self.indices[near, : valid.shape[2]] + line[:, :, None]
        common = (inside[members] & valid).sum(axis=2)
        valid &= (3 * common > 2 * valid.sum(axis=2))[:, :, None]
        inside[members[valid]] = True
        chosen = np.flatnonzero(inside)
        owner, columns = np.divmod(chosen, self.count)
        place = line + self.indices[rows]
        listed[place] = True
        distances = np.empty(len(inside), np.float32)  # set where listed, from the search
        distances[place] = self.near[rows]
        weights = np.exp(-self._filled(distances[chosen], ~listed[chosen], rows[owner], columns))
        weights /= np.bincount(owner, weights, minlength=len(rows)).astype(np.float32)[owner]
        return np.bincount(owner, minlength=len(rows)), columns, weights

    def _filled(self, distances: np.ndarray, missing: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The normalised distances (n,) of pairs of images, with the missing ones computed."""
        pairs = np.flatnonzero(missing)
        for part in np.array_split(pairs, 1 + len(pairs) * self.features.shape[1] // _BLOCK_NUMBERS):
            gap = self.features[rows[part]] - self.features[columns[part]]
            distances[part] = np.einsum("ij,ij->i", gap, gap) / self.largest[rows[part]]
        return distances

    def _average(self, vectors: SparseRows) -> SparseRows:
        """The matrix whose row i is the mean of the rows of the k2 nearest neighbours of image i."""
        nearest = self.indices[:, : self.k2]

        def work(rows: np.ndarray) -> RowBlock:
            owner, places = vectors.entries(nearest[rows].ravel())
            cell = owner // nearest.shape[1] * self.count + vectors.columns[places]
            key = np.sort((cell << 32) | np.arange(len(cell)))  # a stable argsort, much faster
            cell, values = key >> 32, vectors.values[places[key & 0xFFFFFFFF]]
            first = np.flatnonzero(np.diff(cell, prepend=-1))
            owner, columns = np.divmod(cell[first], self.count)
            return np.bincount(owner, minlength=len(rows)), columns, np.add.reduceat(values, first) / nearest.shape[1]

        mean = len(vectors.columns) // self.count + 1
        numbers_a_row = max(4 * mean * nearest.shape[1], self.count >> 9)  # cells stay below 2 ** 31
        return stacked(in_threads(work, self._blocks(numbers_a_row)))

    def _invert(self, vectors: SparseRows) -> None:
        """Store the rows of the queries, and for each column the gallery images that have an entry, with its weight."""
        starts, columns, values = vectors
        cut, begin = starts[self.num_queries], starts[self.first_gallery]
        self.query = SparseRows(starts[: self.num_queries + 1], columns[:cut], values[:cut])
        counts = np.diff(starts[self.first_gallery :])
        images = np.repeat(np.arange(len(counts)), counts)
        order = np.sort((columns[begin:] << 32) | np.arange(len(images))) & 0xFFFFFFFF  # a stable argsort, much faster
        self.sizes = np.bincount(columns[begin:], minlength=self.count)
        ends = np.cumsum(self.sizes)[:-1]
        self.holders, self.weights = np.split(images[order], ends), np.split(values[begin:][order], ends)

    def _add_common(self, first: int, common: torch.Tensor) -> None:
        """Add Σ min(V_i, V_j) for the queries first, first + 1, … to `common` (n, Ng), some columns of V at a time."""
        starts, columns, values = self.query
        begin, end = starts[first], starts[first + len(common)]
        line = np.repeat(np.arange(len(common)) * common.shape[1], np.diff(starts[first : first + len(common) + 1]))
        order = np.argsort(columns[begin:end], kind="stable")  # one column after the other stays in the cache
        columns, values, line = columns[begin:end][order], values[begin:end][order], line[order]
        if len(columns) == 0:
            return
        sizes = self.sizes[columns]
        chunk = np.cumsum(sizes) // _CHUNK_PAIRS
        edges = [0, *(np.flatnonzero(np.diff(chunk)) + 1).tolist(), len(columns)]
        room = _CHUNK_PAIRS + int(sizes.max())
        places, shared, flat = np.empty(room, np.int64), np.empty(room, np.float32), common.view(-1)
        for low, high in pairwise(edges):
            used, counts = columns[low:high].tolist(), sizes[low:high]
            place, least = places[: counts.sum()], shared[: counts.sum()]
            np.concatenate([self.holders[column] for column in used], out=place)
            np.concatenate([self.weights[column] for column in used], out=least)
            np.minimum(least, np.repeat(values[low:high], counts), out=least)
            place += np.repeat(line[low:high], counts)
            flat.scatter_add_(0, torch.from_numpy(place), torch.from_numpy(least))

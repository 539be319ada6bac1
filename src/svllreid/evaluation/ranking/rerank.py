"""k-reciprocal re-ranking with sparse vectors, in blocks: without a loop over images and without an N × N matrix.

Source: Zhong et al., CVPR 2017, arXiv:1701.08398.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from svllreid.arguments import share, whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter, in_threads
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matrix import Features, check_dimensions
from svllreid.evaluation.ranking.sparse import RowBlock, SparseRows, stacked
from svllreid.evaluation.ranking.topk import smallest

# Neighbours kept in addition to the longest list: near ties at the end of a list are decided among them, in float64.
_SLACK = 8
_NEAR_TIE = 4e-6
_PAIR_BYTES = 16 << 20
_BLOCK_NUMBERS = 1 << 21
_CHUNK_PAIRS = 1 << 16
_CACHE_NUMBERS = 1 << 18  # so many stay in a core's cache


@dataclass(frozen=True)
class RerankOptions:
    """The options of k-reciprocal re-ranking; the defaults are those of the published test.

    Args:
        k1: number of nearest neighbours that are tested for reciprocity, at least 1. Of fewer images all are taken.
        k2: number of nearest neighbours over which vectors are averaged, at least 1; 1 averages nothing.
        lambda_value: weight in [0, 1] of the original distance; the Jaccard distance has the rest.
    Raises: EvaluationError: a value is out of range.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> features, pids = np.eye(4), [1, 2, 3, 4]
        >>> options = svllreid.RerankOptions(k1=2, k2=1)
        >>> svllreid.evaluate_features(features, features, pids, pids, rerank=options).mean_ap
        1.0
    """

    k1: int = 50
    k2: int = 15
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        for name in ("k1", "k2"):
            count = whole_number(getattr(self, name), f"re-ranking: {name}", EvaluationError)
            object.__setattr__(self, name, count)  # the way for a frozen dataclass to set its own fields
        weight = share(self.lambda_value, "re-ranking: lambda_value", EvaluationError)
        object.__setattr__(self, "lambda_value", weight)


def rerank(
    q_feats: Any,
    g_feats: Any,
    *,
    k1: int = RerankOptions.k1,
    k2: int = RerankOptions.k2,
    lambda_value: float = RerankOptions.lambda_value,
    device: torch.device | str | None = None,
    progress: ProgressCallback | None = None,
) -> torch.Tensor | np.ndarray:
    """The re-ranked distances of every query to every gallery image.

    Args:
        q_feats, g_feats: (Nq, D) and (Ng, D) float tensors or arrays; compared in float32.
        k1, k2, lambda_value: see `RerankOptions`.
        device: the device that computes; None takes that of q_feats.
        progress: called as `progress(done, total)`, in images.
    Returns: (Nq, Ng) float32, smaller is nearer: a tensor on that device, or an array if q_feats is none. As published,
        they are weighted sums of Jaccard distances and of squared Euclidean distances divided by the largest of the
        query. So they have no unit and serve for ranking only: thresholds of `verify_features` do not apply to them.
    Raises: EvaluationError: features that cannot be ranked (see `evaluate_features`), or an option out of range.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> query, gallery = np.array([[0.0]]), np.array([[0.1], [0.2], [9.0]])
        >>> svllreid.rerank(query, gallery, k1=2, k2=1).argsort().tolist()
        [[0, 1, 2]]
    """
    options = RerankOptions(k1, k2, lambda_value)
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    counter = ProgressCounter(progress, Reranker.work(query.count, gallery.count) + query.count)
    reranker = Reranker(query, gallery, options, counter)
    result = torch.empty((query.count, gallery.count), device=query.device)
    step = reranker.block_rows()
    for start in range(0, query.count, step):
        stop = min(start + step, query.count)
        result[start:stop] = reranker.rows(start, stop)
        counter.add(stop - start)
    return result if isinstance(q_feats, torch.Tensor) else result.cpu().numpy()


class Reranker:
    """Computes rows of the re-ranked distance matrix; the neighbours of all images are found when it is made.

    Memory: a copy of the features, and some hundred numbers for each image.

    Args:
        query: (Nq, D) features.
        gallery: (Ng, D) features.
        options: k1, k2, lambda_value.
        counter: counts the work; making a Reranker takes `work(Nq, Ng)` units.
    Raises: EvaluationError: different D, NaN or infinite rows.
    """

    def __init__(self, query: Features, gallery: Features, options: RerankOptions, counter: ProgressCounter) -> None:
        check_dimensions(query, gallery)
        self.options, self.counter = options, counter
        self.num_queries, self.count = query.count, query.count + gallery.count
        self.half = round(options.k1 / 2)
        joined = torch.cat([part.rows(0, part.count).float() for part in (query, gallery)])  # (N, D)
        parts = Features(joined[: query.count], query.name), Features(joined[query.count :], gallery.name)
        self.plain = PairwiseDistances(*parts)
        self.features = Features(joined, "features")
        self.shape, self.dtype, self.tile = self.plain.shape, torch.float32, self.plain.tile
        self.device, self.host = joined.device, joined.cpu().numpy()
        self._search()
        self.wide, self.narrow = self._reciprocal(options.k1), self._reciprocal(self.half)
        encoded = in_threads(self._encode, self._blocks(self.count), lambda rows: counter.add(len(rows)))
        vectors = stacked(encoded)
        self._invert(self._average(vectors) if options.k2 > 1 else vectors)

    @staticmethod
    def work(num_queries: int, num_gallery: int) -> int:
        """The units of progress that making a Reranker takes: one to search for and one to encode each image."""
        return 2 * (num_queries + num_gallery)

    def block_rows(self) -> int:
        """The number of query rows of a block of the usual size."""
        return self.plain.block_rows()

    def _blocks(self, numbers_a_row: int) -> list[np.ndarray]:
        """The numbers of all images (N,) in blocks, so small that `numbers_a_row` for each image take little memory."""
        step = max(1, _BLOCK_NUMBERS // numbers_a_row)
        return [np.arange(start, min(start + step, self.count)) for start in range(0, self.count, step)]

    def _search(self) -> None:
        """Find the nearest neighbours of all images.

        It sets `neighbours` (N, K), the nearest images; `largest` (N,), the largest distance of each image; and `near`
        (N, K), the distances of the neighbours divided by it.
        """
        ends = [min(self.count, end) for end in (self.options.k1 + 1, self.half + 1, self.options.k2)]
        longest = max(ends)
        distances = PairwiseDistances(self.features)
        self.neighbours = np.empty((self.count, longest), np.int64)
        self.near, self.largest = np.empty((self.count, longest), np.float32), np.empty(self.count, np.float32)
        step = distances.block_rows()
        for start in range(0, self.count, step):
            stop = min(start + step, self.count)
            block = distances.rows(start, stop)
            rows = torch.arange(stop - start, device=self.device)
            block[rows, rows + start] = 0  # an image's distance to itself
            largest = block.amax(dim=1)
            largest[largest == 0] = 1  # all images equal: every distance stays 0
            values, columns = smallest(block, min(self.count, longest + _SLACK))
            self._settle(rows + start, values, columns, ends, distances.query_norms)
            self.neighbours[start:stop] = columns[:, :longest].cpu().numpy()
            self.near[start:stop] = (values[:, :longest] / largest[:, None]).cpu().numpy()
            self.largest[start:stop] = largest.cpu().numpy()
            self.counter.add(stop - start)

    def _settle(
        self, rows: torch.Tensor, values: torch.Tensor, columns: torch.Tensor, ends: list[int], norms: torch.Tensor
    ) -> None:
        """Sort neighbours again in float64 where float32 cannot decide which of them belong to a list.

        Args:
            rows: (n,) the images.
            values, columns: (n, kept) distances and numbers of their neighbours, sorted again in place.
            ends: lengths of the lists.
            norms: (N,) squared norms of all images, the scale of rounding errors.
        """
        close = torch.zeros_like(rows, dtype=torch.bool)
        for end in ends:
            if end < values.shape[1]:
                margin = _NEAR_TIE * (norms[rows] + norms[columns[:, end]])
                close |= values[:, end] - values[:, end - 1] <= margin
        wide = torch.float64 if self.device.type != "mps" else torch.float32
        step = max(1, _PAIR_BYTES // (8 * self.features.dim * values.shape[1]))
        for part in close.nonzero()[:, 0].split(step):
            ordered = columns[part].sort(dim=1).values
            others = self.features.take(ordered.flatten()).to(wide)
            others = others.view(*ordered.shape, self.features.dim)  # (n, kept, D)
            images = self.features.take(rows[part]).to(wide)[:, None]  # (n, 1, D)
            exact, order = (others - images).square().sum(dim=2).sort(dim=1, stable=True)
            columns[part], values[part] = ordered.gather(1, order), exact.to(values.dtype)

    def _reciprocal(self, k: int) -> np.ndarray:
        """Which of the k + 1 nearest neighbours of each image have that image among theirs: (N, k + 1) bool."""
        nearest = self.neighbours[:, : k + 1]
        result = np.empty(nearest.shape, bool)

        def work(rows: np.ndarray) -> None:
            result[rows] = (nearest[nearest[rows]] == rows[:, None, None]).any(axis=2)

        in_threads(work, self._blocks(nearest.shape[1] ** 2))
        return result

    def _encode(self, rows: np.ndarray) -> RowBlock:
        """Rows of the matrix V: the weights of each image's expanded reciprocal neighbours, which sum to 1."""
        wide = self.wide[rows]  # (n, k1 + 1)
        near = self.neighbours[rows, : wide.shape[1]]
        line = np.arange(len(rows))[:, None] * self.count
        inside, listed = np.zeros((2, len(rows) * self.count), bool)
        inside[(line + near)[wide]] = True
        valid = self.narrow[near] & wide[:, :, None]  # (n, k1 + 1, k1 / 2 + 1)
        members = self.neighbours[near, : valid.shape[2]] + line[:, :, None]
        common = (inside[members] & valid).sum(axis=2)
        valid &= (3 * common > 2 * valid.sum(axis=2))[:, :, None]
        inside[members[valid]] = True
        chosen = np.flatnonzero(inside)
        owner, columns = np.divmod(chosen, self.count)
        place = line + self.neighbours[rows]
        listed[place] = True
        distances = np.empty(len(inside), np.float32)  # set where listed, from the search
        distances[place] = self.near[rows]
        weights = np.exp(-self._filled(distances[chosen], ~listed[chosen], rows[owner], columns))
        weights /= np.bincount(owner, weights, minlength=len(rows)).astype(np.float32)[owner]
        return np.bincount(owner, minlength=len(rows)), columns, weights

    def _filled(self, distances: np.ndarray, missing: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The normalised distances (n,) of pairs of images, with the missing ones computed."""
        pairs = np.flatnonzero(missing)
        for part in np.array_split(pairs, 1 + len(pairs) * self.features.dim // _BLOCK_NUMBERS):
            gap = self.host[rows[part]] - self.host[columns[part]]
            distances[part] = np.einsum("ij,ij->i", gap, gap) / self.largest[rows[part]]
        return distances

    def _average(self, vectors: SparseRows) -> SparseRows:
        """The matrix whose row i is the mean of the rows of the k2 nearest neighbours of image i."""
        nearest = self.neighbours[:, : self.options.k2]

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
        cut = starts[self.num_queries]
        self.query = SparseRows(starts[: self.num_queries + 1], columns[:cut], values[:cut])
        counts = np.diff(starts[self.num_queries :])
        images = np.repeat(np.arange(len(counts)), counts)
        order = np.sort((columns[cut:] << 32) | np.arange(len(images))) & 0xFFFFFFFF  # a stable argsort, much faster
        self.sizes = np.bincount(columns[cut:], minlength=self.count)
        ends = np.cumsum(self.sizes)[:-1]
        self.holders, self.weights = np.split(images[order], ends), np.split(values[cut:][order], ends)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """The re-ranked distances of queries start..stop, (stop − start, Ng); start is a multiple of `tile[0]`."""
        return self.reranked(start, self.plain.rows(start, stop))

    def reranked(self, start: int, block: torch.Tensor) -> torch.Tensor:
        """Replace the plain distances (n, Ng) of the queries from `start` on by re-ranked ones; returns the block."""
        stop = start + len(block)
        block *= torch.from_numpy(self.options.lambda_value / self.largest[start:stop, None]).to(block)
        common = torch.zeros(block.shape)
        share = max(1, _CACHE_NUMBERS // block.shape[1])
        parts = list(zip(range(start, stop, share), common.split(share), strict=True))
        in_threads(lambda part: self._add_common(*part), parts)
        common = common.to(self.device)
        common.div_(2 - common).sub_(1).mul_(self.options.lambda_value - 1)  # (1 − λ) (1 − m / (2 − m))
        return block.add_(common)

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

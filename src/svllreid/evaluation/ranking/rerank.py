"""k-reciprocal re-ranking on sparse vectors: neighbours by blocks, no image-by-image loop and no N × N matrix.

Source: Zhong et al., CVPR 2017, arXiv:1701.08398.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from svllreid.arguments import share, whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter, in_threads
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matrix import Features, check_dimensions
from svllreid.evaluation.ranking.topk import smallest

# Neighbours kept beyond the largest list needed: near ties at a list's end are decided among these, in float64.
_SLACK = 8
_NEAR_TIE = 4e-6
_PAIR_BYTES = 16 << 20
_BLOCK_NUMBERS = 1 << 21
_CHUNK_PAIRS = 1 << 16
_CACHE_NUMBERS = 1 << 18  # stay in a core's cache

_Part = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class RerankOptions:
    """How to re-rank; the defaults are those of the published test.

    Args:
        k1: neighbours that are tested for reciprocity, at least 1; a list never exceeds the N images there are.
        k2: neighbours averaged over, at least 1; 1 averages nothing.
        lambda_value: weight in [0, 1] of the original distance against the Jaccard distance.
    Raises: EvaluationError: a value out of range.
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
            object.__setattr__(self, name, count)  # as frozen dataclasses set what they are made with
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
    """Re-ranked distances of every query to every gallery image.

    Args:
        q_feats, g_feats: (Nq, D) and (Ng, D) float tensors or arrays; compared in float32.
        k1, k2, lambda_value: see `RerankOptions`.
        device: where to compute; None is where q_feats lies.
        progress: called as `progress(done, total)`, in images.
    Returns: (Nq, Ng) float32, smaller is nearer: a tensor on that device, or an array where q_feats is no tensor.
        As published, they mix Jaccard distances with squared Euclidean ones divided by each query's largest, so they
        have no unit: they serve to rank, and no threshold of `verify_features` applies to them.
    Raises: EvaluationError: bad features (see `evaluate_features`) or options.
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
    tracker = ProgressCounter(progress, Reranker.work(query.count, gallery.count) + query.count)
    reranker = Reranker(query, gallery, options, tracker)
    result = torch.empty((query.count, gallery.count), device=query.device)
    step = reranker.block_rows()
    for start in range(0, query.count, step):
        stop = min(start + step, query.count)
        result[start:stop] = reranker.rows(start, stop)
        tracker.add(stop - start)
    return result if isinstance(q_feats, torch.Tensor) else result.cpu().numpy()


class _Sparse(NamedTuple):
    """A sparse matrix by rows: entries of row i are starts[i]..starts[i + 1]."""

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All entries of `rows` (n,), one row after the other: which of the n, and the entry's place."""
        counts = self.starts[rows + 1] - self.starts[rows]
        first = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(self.starts[rows] - first, counts)
        return np.repeat(np.arange(len(rows)), counts), places


def _stacked(parts: list[_Part]) -> _Sparse:
    """Blocks of (entries a row, columns, values) as one matrix."""
    counts, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Sparse(np.concatenate([[0], np.cumsum(counts)]), columns, values)


class Reranker:
    """Rows of the re-ranked distance matrix, on demand; the neighbourhoods are worked out when it is made.

    Memory: the features once more, and some hundred numbers an image.

    Args:
        query: (Nq, D) features.
        gallery: (Ng, D) features.
        options: k1, k2, lambda_value.
        tracker: told of the work done, `work(Nq, Ng)` units of it here.
    Raises: EvaluationError: different D, NaN or infinite rows.
    """

    def __init__(self, query: Features, gallery: Features, options: RerankOptions, tracker: ProgressCounter) -> None:
        check_dimensions(query, gallery)
        self.options, self.tracker = options, tracker
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
        encoded = in_threads(self._encode, self._blocks(self.count), lambda rows: tracker.add(len(rows)))
        vectors = _stacked(encoded)
        self._invert(self._average(vectors) if options.k2 > 1 else vectors)

    @staticmethod
    def work(num_queries: int, num_gallery: int) -> int:
        """Units of progress that making one takes: each image is searched for and encoded."""
        return 2 * (num_queries + num_gallery)

    def block_rows(self) -> int:
        """Query rows of a block of the usual size."""
        return self.plain.block_rows()

    def _blocks(self, numbers_a_row: int) -> list[np.ndarray]:
        """All images (N,) in blocks that keep their scratch memory small."""
        step = max(1, _BLOCK_NUMBERS // numbers_a_row)
        return [np.arange(start, min(start + step, self.count)) for start in range(0, self.count, step)]

    def _search(self) -> None:
        """Find `neighbours` (N, K), `near` (N, K) their distances / row maximum, and `largest` (N,), it."""
        ends = [min(self.count, end) for end in (self.options.k1 + 1, self.half + 1, self.options.k2)]
        longest = max(ends)
        distances = PairwiseDistances(self.features)
        self.neighbours = np.empty((self.count, longest), np.int64)
        self.near, self.largest = np.empty((self.count, longest), np.float32), np.empty(self.count, np.float32)
        step = distances.block_rows()
        for start in range(0, self.count, step):
            stop = min(start + step, self.count)
            block = distances.rows(start, stop)
            own = torch.arange(stop - start, device=self.device)
            block[own, own + start] = 0
            largest = block.amax(dim=1)
            largest[largest == 0] = 1  # all images equal: every distance stays 0
            values, columns = smallest(block, min(self.count, longest + _SLACK))
            self._settle(own + start, values, columns, ends, distances.query_norms)
            self.neighbours[start:stop] = columns[:, :longest].cpu().numpy()
            self.near[start:stop] = (values[:, :longest] / largest[:, None]).cpu().numpy()
            self.largest[start:stop] = largest.cpu().numpy()
            self.tracker.add(stop - start)

    def _settle(
        self, rows: torch.Tensor, values: torch.Tensor, columns: torch.Tensor, ends: list[int], norms: torch.Tensor
    ) -> None:
        """Order neighbours (n, kept) anew, in float64, where float32 cannot tell which come before a list's end."""
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
            own = self.features.take(rows[part]).to(wide)[:, None]  # (n, 1, D)
            exact, order = (others - own).square().sum(dim=2).sort(dim=1, stable=True)
            columns[part], values[part] = ordered.gather(1, order), exact.to(values.dtype)

    def _reciprocal(self, k: int) -> np.ndarray:
        """(N, k + 1) bool: which of the k + 1 nearest of each image have that image among theirs."""
        nearest = self.neighbours[:, : k + 1]
        result = np.empty(nearest.shape, bool)

        def work(rows: np.ndarray) -> None:
            result[rows] = (nearest[nearest[rows]] == rows[:, None, None]).any(axis=2)

        in_threads(work, self._blocks(nearest.shape[1] ** 2))
        return result

    def _encode(self, rows: np.ndarray) -> _Part:
        """Rows of V: weights of each image over its expanded reciprocal set, each row summing to 1."""
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
        distances = np.empty(len(inside), np.float32)  # known from the search where listed
        distances[place] = self.near[rows]
        weights = np.exp(-self._filled(distances[chosen], ~listed[chosen], rows[owner], columns))
        weights /= np.bincount(owner, weights, minlength=len(rows)).astype(np.float32)[owner]
        return np.bincount(owner, minlength=len(rows)), columns, weights

    def _filled(self, distances: np.ndarray, missing: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The normalised distances (n,) of pairs of images, those that are missing worked out."""
        pairs = np.flatnonzero(missing)
        for part in np.array_split(pairs, 1 + len(pairs) * self.features.dim // _BLOCK_NUMBERS):
            gap = self.host[rows[part]] - self.host[columns[part]]
            distances[part] = np.einsum("ij,ij->i", gap, gap) / self.largest[rows[part]]
        return distances

    def _average(self, vectors: _Sparse) -> _Sparse:
        """Each row becomes the mean over the first k2 neighbours' rows."""
        nearest = self.neighbours[:, : self.options.k2]

        def work(rows: np.ndarray) -> _Part:
            owner, places = vectors.entries(nearest[rows].ravel())
            cell = owner // nearest.shape[1] * self.count + vectors.columns[places]
            key = np.sort((cell << 32) | np.arange(len(cell)))  # a stable argsort, much faster
            cell, values = key >> 32, vectors.values[places[key & 0xFFFFFFFF]]
            first = np.flatnonzero(np.diff(cell, prepend=-1))
            owner, columns = np.divmod(cell[first], self.count)
            return np.bincount(owner, minlength=len(rows)), columns, np.add.reduceat(values, first) / nearest.shape[1]

        mean = len(vectors.columns) // self.count + 1
        numbers_a_row = max(4 * mean * nearest.shape[1], self.count >> 9)  # cells stay below 2 ** 31
        return _stacked(in_threads(work, self._blocks(numbers_a_row)))

    def _invert(self, vectors: _Sparse) -> None:
        """Keep the queries' rows, and by column the gallery images that hold it with their weights."""
        starts, columns, values = vectors
        cut = starts[self.num_queries]
        self.query = _Sparse(starts[: self.num_queries + 1], columns[:cut], values[:cut])
        counts = np.diff(starts[self.num_queries :])
        images = np.repeat(np.arange(len(counts)), counts)
        order = np.sort((columns[cut:] << 32) | np.arange(len(images))) & 0xFFFFFFFF  # a stable argsort, much faster
        self.sizes = np.bincount(columns[cut:], minlength=self.count)
        ends = np.cumsum(self.sizes)[:-1]
        self.holders, self.weights = np.split(images[order], ends), np.split(values[cut:][order], ends)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Re-ranked distances of queries start..stop, start a multiple of `tile[0]`: (stop − start, Ng) float32."""
        return self.reranked(start, self.plain.rows(start, stop))

    def reranked(self, start: int, block: torch.Tensor) -> torch.Tensor:
        """Re-ranked distances of the queries from `start` on, in place of their plain ones (n, Ng), which are given."""
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
        """Add Σ min(V_i, V_j) of queries first, first + 1 … to `common` (n, Ng), some shared columns at a time."""
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

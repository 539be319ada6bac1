"""Verification, "are these two the same?": ROC, equal error rate and thresholds over all pairs except junk.

The distances of the genuine pairs, which are few, are kept. Of the impostor pairs, which are very many, only the number
between two such distances is counted. So every rate is exact without the whole distance matrix in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch

from svllreid.arguments import share
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import DistanceBlocks, ProgressCallback, ProgressCounter, in_threads
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matches import Matches
from svllreid.evaluation.ranking.matrix import Features

_PIECE_NUMBERS = 1 << 20  # of a thread
_GPU_NUMBERS = 1 << 26  # at once on a GPU


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the distance, with the rates that it gives.

    Args:
        threshold: pairs at most this far apart (`svllreid.distances`) are accepted; None where no threshold accepts a
            genuine pair.
        false_accept_rate: share of the impostor pairs accepted.
        true_accept_rate: share of the genuine pairs accepted.
    """

    threshold: float | None
    false_accept_rate: float
    true_accept_rate: float


@dataclass(frozen=True)
class Verification:
    """How well thresholds on the distance separate genuine pairs (same pid) from impostor pairs (different pids).

    Args:
        thresholds: (M,) float64, the different distances (Euclidean, or 1 − cos) of the genuine pairs, ascending. They
            are the float32 numbers that `svllreid.distances` returns.
        false_accept_rates, true_accept_rates: (M,) float64, the shares of the impostor and of the genuine pairs that
            are accepted at each threshold.
        roc: (2 M + 2, 2) float64, the corners of the ROC curve from (0, 0) to (1, 1): false and true accept rate.
        auc: area below the curve: the probability that a genuine pair is nearer than an impostor pair, ties counting
            half.
        equal_error_rate: the error rate at the point of the curve where the share of refused genuine pairs equals that
            of accepted impostor pairs.
        num_genuine, num_impostor: numbers of pairs.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> features, pids = np.array([[0.0], [1.0], [8.0], [9.0]]), ["ann", "ann", "bob", "bob"]
        >>> verification = svllreid.verify_features(features, features, pids, pids)
        >>> verification.at(false_accept_rate=0.01)
        OperatingPoint(threshold=1.0, false_accept_rate=0.0, true_accept_rate=1.0)
    """

    thresholds: np.ndarray
    false_accept_rates: np.ndarray
    true_accept_rates: np.ndarray
    roc: np.ndarray
    auc: float
    equal_error_rate: float
    num_genuine: int
    num_impostor: int

    def at(self, false_accept_rate: float) -> OperatingPoint:
        """The largest threshold whose false accept rate is at most the given one.

        Args:
            false_accept_rate: the largest allowed share of accepted impostor pairs, 0 to 1.
        Raises: EvaluationError: a rate outside 0 to 1.
        """
        false_accept_rate = share(false_accept_rate, "false_accept_rate", EvaluationError)
        last = int(np.searchsorted(self.false_accept_rates, false_accept_rate, side="right")) - 1
        return OperatingPoint(None, 0.0, 0.0) if last < 0 else self._point(last)

    def at_equal_error(self) -> OperatingPoint:
        """The largest threshold whose false accept rate is at most its share of refused genuine pairs."""
        last = int(np.count_nonzero(self.false_accept_rates <= 1 - self.true_accept_rates)) - 1
        return self._point(max(0, last))

    def _point(self, step: int) -> OperatingPoint:
        return OperatingPoint(
            *(float(v[step]) for v in (self.thresholds, self.false_accept_rates, self.true_accept_rates))
        )


def verify_features(
    q_feats: Any,
    g_feats: Any,
    q_pids: Any,
    g_pids: Any,
    q_camids: Any = None,
    g_camids: Any = None,
    *,
    metric: str = "euclidean",
    device: torch.device | str | None = None,
    progress: ProgressCallback | None = None,
) -> Verification:
    """Verify all pairs of a query and a gallery image except junk, in blocks.

    Args:
        q_feats, g_feats, q_pids, g_pids, q_camids, g_camids, device: see `evaluate_features`.
        metric: `euclidean`, whose thresholds are those of `svllreid.distances`, or `cosine`, 1 − cos.
        progress: called as `progress(done, total)`, in images, each counted twice.
    Raises: EvaluationError: see `evaluate_features`; also where no pair is genuine, or none an impostor.
    Example:
        Pairs of the same identity are 1 and 2 apart, pairs of different identities 3 and 4.

        >>> import numpy as np
        >>> import svllreid
        >>> query, gallery = np.array([[0.0], [5.0]]), np.array([[1.0], [3.0]])
        >>> verification = svllreid.verify_features(query, gallery, ["ann", "bob"], ["ann", "bob"])
        >>> verification.thresholds.tolist(), verification.equal_error_rate
        ([1.0, 2.0], 0.0)
    """
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    matches = Matches((query.count, gallery.count), q_pids, g_pids, q_camids, g_camids)
    counter = ProgressCounter(progress, 2 * query.count)
    source = PairwiseDistances(query, gallery, metric)
    blocks, genuine = DistanceBlocks(source, keep=True), GenuinePairs(source, matches)
    for start, block in blocks:
        genuine.read(start, block)
        counter.add(len(block))
    impostors = genuine.impostors()
    for start, block in blocks:
        impostors.read(start, block)
        counter.add(len(block))
    return impostors.result()


class GenuinePairs:
    """Reads blocks of distance rows and collects the distances of the genuine pairs: equal pid, not junk.

    Args:
        source: the distances that the blocks are rows of; it converts them to the unit that is reported.
        matches: which pairs are genuine, and which are junk.
    """

    def __init__(self, source: PairwiseDistances, matches: Matches) -> None:
        self.source, self.matches = source, matches
        self._distances: list[np.ndarray] = []

    def read(self, first: int, block: torch.Tensor) -> None:
        """Read the distances (n, Ng) of the queries from `first` on; the block is not changed."""
        rows, columns, junk = self.matches.pairs(first, first + len(block))
        chosen = block[torch.from_numpy(rows[~junk]), torch.from_numpy(columns[~junk])]
        self._distances.append(self.source.reported(chosen).cpu().numpy())

    def impostors(self) -> ImpostorPairs:
        """The counter of the impostor pairs, for a second reading of the same rows, after all queries have been read.

        Raises: EvaluationError: there are no genuine pairs, or no impostor pairs.
        """
        distances, counts = np.unique(np.concatenate(self._distances), return_counts=True)
        num_queries, num_gallery = self.matches.shape
        num_impostor = num_queries * num_gallery - int(self.matches.counts.sum())
        if not len(distances) or not num_impostor:
            kind = "an impostor pair (different pids)" if len(distances) else "a genuine pair (same pid, not junk)"
            raise EvaluationError(f"no query and gallery image make {kind}; verification needs both kinds")
        return ImpostorPairs(self.source, self.matches, distances, counts, num_impostor)


class ImpostorPairs:
    """Reads blocks of distance rows and counts how many impostor pairs lie between the distances of genuine pairs.

    Args:
        source, matches: see `GenuinePairs`.
        distances: (M,) float32, the different distances of the genuine pairs, ascending.
        counts: (M,) int64, the number of genuine pairs at each of them.
        num_impostor: number of pairs of different pids.
    """

    def __init__(
        self, source: PairwiseDistances, matches: Matches, distances: np.ndarray, counts: np.ndarray, num_impostor: int
    ) -> None:
        self.source, self.matches, self.num_impostor = source, matches, num_impostor
        self.distances, self.counts = distances, counts
        self._below, self._up_to = np.zeros((2, len(distances) + 1), np.int64)

    def read(self, first: int, block: torch.Tensor) -> None:
        """Read the distances (n, Ng) of the queries from `first` on; the block is not changed."""
        on_gpu = block.device.type == "cuda"
        step = max(1, (_GPU_NUMBERS if on_gpu else _PIECE_NUMBERS) // block.shape[1])
        starts, parts = range(first, first + len(block), step), block.split(step)
        if on_gpu:
            edges = torch.from_numpy(self.distances).to(block.device)
            for start, part in zip(starts, parts, strict=True):
                self._add(*_between(self._impostors(start, part), edges))
            return
        lock = Lock()

        def work(piece: tuple[int, torch.Tensor]) -> None:
            counts = between_sorted(self._impostors(*piece).cpu().numpy(), self.distances)
            with lock:
                self._add(*counts)

        in_threads(work, list(zip(starts, parts, strict=True)))

    def _impostors(self, first: int, part: torch.Tensor) -> torch.Tensor:
        """A copy of rows of distances in the unit that is reported, with infinity for the pairs of equal pids."""
        rows, columns, _ = self.matches.pairs(first, first + len(part))
        values = self.source.reported(part)
        values[torch.from_numpy(rows), torch.from_numpy(columns)] = torch.inf
        return values

    def _add(self, below: np.ndarray, up_to: np.ndarray) -> None:
        self._below += below
        self._up_to += up_to

    def result(self) -> Verification:
        """The rates at every threshold, after all queries have been read."""
        return verification_of(self.distances, self.counts, self._below, self._up_to, self.num_impostor)


def verification_of(
    distances: np.ndarray, counts: np.ndarray, below: np.ndarray, up_to: np.ndarray, num_impostor: int
) -> Verification:
    """The rates at every threshold, from counted pairs.

    Args:
        distances: (M,) the different distances of the genuine pairs, ascending.
        counts: (M,) the number of genuine pairs at each of them.
        below, up_to: (M + 1,) numbers of impostor pairs between them, as `between_sorted` counts them.
        num_impostor: number of impostor pairs.
    """
    below, up_to = (np.cumsum(between)[:-1] for between in (below, up_to))
    num_genuine = int(counts.sum())
    accepted = np.cumsum(counts) / num_genuine
    roc = np.zeros((2 * len(distances) + 2, 2))
    roc[1:-1:2, 0], roc[2:-1:2, 0], roc[-1] = below / num_impostor, up_to / num_impostor, 1
    roc[3:-1:2, 1], roc[2:-1:2, 1] = accepted[:-1], accepted
    return Verification(
        thresholds=distances.astype(np.float64),
        false_accept_rates=roc[2:-1:2, 0],
        true_accept_rates=accepted,
        roc=roc,
        auc=float((np.diff(roc[:, 0]) * (roc[1:, 1] + roc[:-1, 1])).sum() / 2),
        equal_error_rate=float(np.interp(0, roc.sum(axis=1) - 1, roc[:, 0])),
        num_genuine=num_genuine,
        num_impostor=num_impostor,
    )


def between_sorted(values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count values by how many edges lie below them.

    Args:
        values: (n, Ng), sorted in place.
        edges: (M,) ascending.
    Returns: two (M + 1,) arrays: entry m counts the values with m edges at most as large as the value, and with m edges
        smaller than the value.
    """
    values.sort(axis=1)  # looking up sorted numbers is many times faster
    near = [row[: row.searchsorted(edges[-1], "right")] for row in values]
    smaller = np.concatenate([edges.searchsorted(row) for row in near])
    most = smaller + (edges[smaller] == np.concatenate(near))
    return np.bincount(most, minlength=len(edges) + 1), np.bincount(smaller, minlength=len(edges) + 1)


def _between(values: torch.Tensor, edges: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The same as `between_sorted` for tensors on a GPU, where sorting first would not be faster."""
    flat = values.flatten()
    counts = (
        torch.bincount(torch.searchsorted(edges, flat, right=right), minlength=len(edges) + 1).cpu().numpy()
        for right in (True, False)
    )
    most, smaller = counts
    return most, smaller

"""Are these two the same? ROC, equal error rate and thresholds over all pairs of query and gallery, without junk.

The distances of genuine pairs, which are few, cut the line into steps; of the impostor pairs, which are very many, only
how many fall on each step is kept. So every rate is exact, and the distance matrix never exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch

from svllreid.arguments import share
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.distance import PairwiseDistances, ProgressCallback, ProgressCounter, in_threads
from svllreid.evaluation.ranking.labels import Labels
from svllreid.evaluation.ranking.matrix import Features

_PIECE_NUMBERS = 1 << 20


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does.

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
    """How well one threshold on the distance tells genuine pairs (same pid) from impostors.

    Args:
        thresholds: (M,) float64, the distances (Euclidean, or 1 − cos) of the genuine pairs, ascending, each once.
            They are what `svllreid.distances` gives, and float32 holds them without rounding.
        false_accept_rates, true_accept_rates: (M,) float64, of accepting pairs at most that far apart.
        roc: (2 M + 2, 2) float64, corners of the whole curve from (0, 0) to (1, 1): false, true accept rate.
        auc: area below it: how often a genuine pair is nearer than an impostor pair, a tie counting half.
        equal_error_rate: where as many genuine pairs are refused as impostors are accepted.
        num_genuine, num_impostor: pairs.
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
        """The threshold that accepts most while accepting no larger share of the impostors.

        Args:
            false_accept_rate: the share allowed, 0 to 1.
        Raises: EvaluationError: a share outside 0 to 1.
        """
        false_accept_rate = share(false_accept_rate, "false_accept_rate", EvaluationError)
        last = int(np.searchsorted(self.false_accept_rates, false_accept_rate, side="right")) - 1
        return OperatingPoint(None, 0.0, 0.0) if last < 0 else self._point(last)

    def at_equal_error(self) -> OperatingPoint:
        """The largest threshold that accepts no larger share of the impostors than it refuses of the genuine pairs."""
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
    """Compare every query with every gallery image, junk left out, in blocks.

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
    labels = Labels((query.count, gallery.count), q_pids, g_pids, q_camids, g_camids)
    pairs = _Pairs(PairwiseDistances(query, gallery, metric), labels, ProgressCounter(progress, 2 * query.count))
    distances, genuine = np.unique(pairs.genuine(), return_counts=True)
    num_genuine, num_impostor = int(genuine.sum()), query.count * gallery.count - int(labels.counts.sum())
    if not num_genuine or not num_impostor:
        kind = "an impostor pair (different pids)" if num_genuine else "a genuine pair (same pid, not junk)"
        raise EvaluationError(f"no query and gallery image make {kind}; verification needs both kinds")
    below, upto = pairs.impostors(distances)
    accepted = np.cumsum(genuine) / num_genuine
    roc = np.zeros((2 * len(distances) + 2, 2))
    roc[1:-1:2, 0], roc[2:-1:2, 0], roc[-1] = below / num_impostor, upto / num_impostor, 1
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


class _Pairs:
    """Distances of genuine and of impostor pairs, block by block, each in a pass of its own."""

    def __init__(self, source: PairwiseDistances, labels: Labels, tracker: ProgressCounter) -> None:
        self.source, self.labels, self.tracker = source, labels, tracker
        count, step = source.shape[0], source.block_rows()
        self.blocks = [(start, min(start + step, count)) for start in range(0, count, step)]

    def genuine(self) -> np.ndarray:
        """Distances of the pairs of equal pid that are not junk."""
        found = []
        for start, stop in self.blocks:
            rows, columns, junk = self.labels.pairs(start, stop)
            block = self.source.reported_rows(start, stop)
            found.append(block[rows[~junk], columns[~junk]].cpu().numpy())
            self.tracker.add(stop - start)
        return np.concatenate(found)

    def impostors(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many impostor pairs are nearer than each of `steps` (M,) ascending, and how many at most that far."""
        below, upto = np.zeros((2, len(steps) + 1), np.int64)
        lock = Lock()
        for start, stop in self.blocks:
            rows, columns, _ = self.labels.pairs(start, stop)
            block = self.source.reported_rows(start, stop)
            block[rows, columns] = torch.inf
            values = block.cpu().numpy()
            share = max(1, _PIECE_NUMBERS // values.shape[1])
            parts = [values[top : top + share] for top in range(0, len(values), share)]
            in_threads(lambda part: _add_steps(part, steps, below, upto, lock), parts)
            self.tracker.add(stop - start)
        return np.cumsum(below)[:-1], np.cumsum(upto)[:-1]


def _add_steps(values: np.ndarray, steps: np.ndarray, below: np.ndarray, upto: np.ndarray, lock: Lock) -> None:
    """Count `values` (n, Ng), sorted in place, by how many of `steps` (M,) are at most as large, and how many smaller.

    Args:
        below, upto: (M + 1,) counts that these are added to, as soon as they are known, so that few are in memory.
    """
    values.sort(axis=1)  # sorted numbers are looked up many times faster
    near = [row[: row.searchsorted(steps[-1], "right")] for row in values]
    smaller = np.concatenate([steps.searchsorted(row) for row in near])
    most = smaller + (steps[smaller] == np.concatenate(near))
    found = np.bincount(most, minlength=len(steps) + 1), np.bincount(smaller, minlength=len(steps) + 1)
    with lock:
        below += found[0]
        upto += found[1]

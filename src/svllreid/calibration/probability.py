"""The probability that a pair shows one identity, by its distance: fitted, and judged on identities held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from svllreid.calibration.record import Isotonic, Logistic, Reliability
from svllreid.errors import EvaluationError
from svllreid.libraries import need

METHODS = ("logistic", "isotonic")
BINS = 10
FOLDS = 5


@dataclass(frozen=True)
class DrawnPairs:
    """Pairs with their distances.

    Args:
        distances: (P,) Euclidean.
        genuine: (P,) whether both images show one identity.
        pids: (P, 2) the identities, numbers.
        cameras: (P, 2) the cameras, the smaller first.
    """

    distances: np.ndarray
    genuine: np.ndarray
    pids: np.ndarray
    cameras: np.ndarray

    def of(self, chosen: np.ndarray) -> DrawnPairs:
        """Some of the pairs."""
        return DrawnPairs(self.distances[chosen], self.genuine[chosen], self.pids[chosen], self.cameras[chosen])


def balanced_weights(genuine: np.ndarray) -> np.ndarray:
    """Weights (P,) with which genuine pairs and impostors weigh the same: half of the number of pairs each."""
    count = np.where(genuine, genuine.sum(), (~genuine).sum())
    return len(genuine) / (2 * count)


def check_method(method: str) -> None:
    """Check the name of a way to fit probabilities. EvaluationError where it is not among METHODS."""
    if method not in METHODS:
        raise EvaluationError(f"method {method!r} is not known; choose one of {', '.join(METHODS)}")


def fit_probability(pairs: DrawnPairs, method: str = "logistic") -> Logistic | Isotonic:
    """Fit the probability to pairs of both kinds, which weigh the same, so that it is that of prior 0.5.

    Args:
        pairs: at least one genuine pair and one impostor.
        method: `logistic`: a logistic function that does not rise with the distance. Or `isotonic`: any function that
            does not, which needs more pairs.
    Raises: EvaluationError: an unknown method.
    Source: Platt 1999, "Probabilistic outputs for support vector machines"; Zadrozny and Elkan 2002, "Transforming
        classifier scores into accurate multiclass probability estimates".
    """
    check_method(method)
    weights = balanced_weights(pairs.genuine)
    if method == "isotonic":
        return _isotonic(pairs, weights)
    mean, deviation = pairs.distances.mean(), pairs.distances.std() or 1.0
    scaled = (pairs.distances - mean) / deviation  # the penalty, which keeps separable pairs finite, knows no unit
    model = need("sklearn.linear_model").LogisticRegression()
    model.fit(scaled[:, None], pairs.genuine, sample_weight=weights)
    slope = float(model.coef_[0, 0] / deviation)
    if slope > 0:  # of the functions that do not rise, the best is then the one that says 0.5 everywhere
        return Logistic(slope=0.0, intercept=0.0)
    return Logistic(slope=slope, intercept=float(model.intercept_[0]) - slope * float(mean))


def _isotonic(pairs: DrawnPairs, weights: np.ndarray) -> Isotonic:
    # No number of pairs proves certainty, so probabilities stay as far from 0 and 1 as one more pair would move them.
    least, most = 1 / (int(pairs.genuine.sum()) + 2), 1 - 1 / (int((~pairs.genuine).sum()) + 2)
    model = need("sklearn.isotonic").IsotonicRegression(
        y_min=min(least, 0.5), y_max=max(most, 0.5), increasing=False, out_of_bounds="clip"
    )
    model.fit(pairs.distances, pairs.genuine.astype(float), sample_weight=weights)
    distances, probabilities = model.X_thresholds_, model.y_thresholds_
    distances, first = np.unique(distances, return_index=True)
    return Isotonic(
        distances=tuple(distances.tolist()), probabilities=tuple(np.minimum.accumulate(probabilities[first]).tolist())
    )


def held_out_probabilities(pairs: DrawnPairs, method: str, seed: int) -> tuple[DrawnPairs, np.ndarray] | None:
    """Pairs of identities that the probability was not fitted to, and their probabilities.

    Identities are dealt into at most FOLDS parts. For each part the probability is fitted to the pairs that have no
    identity of it, and judges the pairs that have no other.

    Args:
        pairs: drawn pairs.
        method: see `fit_probability`.
        seed: of the parts.
    Returns: None where there are too few identities for two parts with both kinds of pairs.
    """
    identities = np.unique(pairs.pids)
    folds = min(FOLDS, len(identities) // 2)
    if folds < 2:
        return None
    fold = np.zeros(identities.max() + 1, np.int64)
    fold[np.random.default_rng(seed).permutation(identities)] = np.arange(len(identities)) % folds
    of_pairs, rows, values = fold[pairs.pids], [], []
    for number in range(folds):
        inside = of_pairs == number
        fitted, judged = pairs.of(~inside.any(axis=1)), np.flatnonzero(inside.all(axis=1))
        if len(np.unique(fitted.genuine)) < 2:
            return None
        rows.append(judged)
        odds = fit_probability(fitted, method).log_odds(pairs.distances[judged])
        values.append(0.5 * (1 + np.tanh(odds / 2)))
    chosen = pairs.of(np.concatenate(rows))
    return chosen, np.concatenate(values)


def reliability(genuine: np.ndarray, probabilities: np.ndarray) -> Reliability | None:
    """How well probabilities agree with what pairs are, both kinds weighing the same; None without both kinds.

    Args:
        genuine: (P,) whether each pair shows one identity.
        probabilities: (P,) at prior 0.5.
    Source: Brier 1950; the expected calibration error as in Guo et al. 2017, arXiv:1706.04599.
    """
    if len(np.unique(genuine)) < 2:
        return None
    weights = balanced_weights(genuine) / len(genuine)
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    inside, said, seen = (
        np.bincount(bins, weights * factor, BINS) for factor in (1.0, probabilities, genuine.astype(float))
    )
    filled = inside > 0
    return Reliability(
        genuine=int(genuine.sum()),
        impostor=int((~genuine).sum()),
        brier=float((weights * (probabilities - genuine) ** 2).sum()),
        calibration_error=min(1.0, float(np.abs(said - seen).sum())),
        weights=_shares(inside, filled, 0.0),
        probabilities=_shares(said / np.where(filled, inside, 1), filled, None),
        shares=_shares(seen / np.where(filled, inside, 1), filled, None),
    )


def _shares(values: np.ndarray, filled: np.ndarray, empty: float | None) -> tuple:
    return tuple(min(1.0, float(value)) if there else empty for value, there in zip(values, filled, strict=True))

"""False-accept rates that the number of pairs supports, and their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from svllreid.calibration.pairs import CameraBlocks, LabelledFeatures, kinds_of
from svllreid.calibration.record import Curve, Interval, PairKind, RatePoint
from svllreid.evaluation.verification import Verification
from svllreid.libraries import need

RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
FALSE_ACCEPTS = 10
"""A rate r is stated from FALSE_ACCEPTS / r impostor pairs on, so that about so many false accepts are seen."""
LEVEL = 0.95
_NORMAL = 1.959964  # standard deviations on each side of the mean that hold 95 % of a normal distribution
_CURVE_POINTS = 256


def point_at(verification: Verification, rate: float) -> RatePoint:
    """The largest threshold that keeps a rate, where the impostor pairs are enough for it."""
    needed = math.ceil(FALSE_ACCEPTS / rate - 1e-6)
    found = verification.at(rate)
    if verification.num_impostor < needed or found.threshold is None:
        return RatePoint(rate=rate, needed=needed)
    accepts = round(found.false_accept_rate * verification.num_impostor)
    low, high = pair_intervals(np.array([accepts]), verification.num_impostor)
    return RatePoint(
        rate=rate,
        needed=needed,
        threshold=found.threshold,
        false_accepts=accepts,
        interval=(float(low[0]), float(high[0])),
        true_accept_rate=found.true_accept_rate,
    )


def pair_intervals(accepts: np.ndarray, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of a share of accepted pairs, if pairs were independent.

    Args:
        accepts: (n,) numbers of accepted pairs.
        pairs: the number of all pairs.
    Returns: lower and upper ends, (n,) each.
    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits", Biometrika 26.
    """
    beta: Any = need("scipy.stats").beta
    tail = (1 - LEVEL) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(accepts > 0, beta.ppf(tail, accepts, pairs - accepts + 1), 0.0)
        high = np.where(accepts < pairs, beta.ppf(1 - tail, accepts + 1, pairs - accepts), 1.0)
    return low, high


def curve_of(verification: Verification, points: tuple[RatePoint, ...]) -> Curve:
    """The false accepts at some of the genuine distances: where their number has grown a little, and at thresholds."""
    accepts = np.rint(verification.false_accept_rates * verification.num_impostor).astype(np.int64)
    levels = np.geomspace(1, max(2, accepts[-1]), _CURVE_POINTS)
    # Of each level the last distance that keeps it.
    chosen = np.searchsorted(accepts, levels, side="right") - 1
    thresholds = [point.threshold for point in points if point.threshold is not None]
    chosen = np.concatenate(
        [[0, len(accepts) - 1], chosen[chosen >= 0], np.searchsorted(verification.thresholds, thresholds)]
    )
    chosen = np.unique(chosen.astype(np.int64))
    low, high = pair_intervals(accepts[chosen], verification.num_impostor)
    return Curve(
        distances=tuple(verification.thresholds[chosen].tolist()),
        false_accepts=tuple(accepts[chosen].tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
    )


def identity_intervals(
    labelled: LabelledFeatures,
    thresholds: dict[PairKind, list[float]],
    count: Callable[[int], None] = lambda pairs: None,
) -> dict[PairKind, list[Interval | None]]:
    """95 % intervals of the false-accept rate at thresholds, if identities are independent and pairs are not.

    All pairs that an identity is in are left out, one identity after the other, which gives the standard error of the
    rate; the interval is a normal one of its logarithm. There is none where no impostor pair is accepted.

    Args:
        labelled: the images.
        thresholds: of each kind of pairs.
        count: called with the number of pairs done since its last call.
    Source: Arvesen 1969, "Jackknifing U-statistics", Annals of Mathematical Statistics 40.
    """
    identities = int(labelled.pids.max()) + 1
    accepted = {kind: np.zeros((len(values), identities)) for kind, values in thresholds.items()}
    pairs = {kind: np.zeros(identities) for kind in thresholds}
    blocks = CameraBlocks(labelled)
    for cameras in blocks.pairs:
        kinds = set(kinds_of(cameras)) & thresholds.keys()
        largest = max((value for kind in kinds for value in thresholds[kind]), default=-1.0)
        for first, second, block, rows, columns in blocks.read(cameras):
            block[rows, columns] = np.inf
            there = np.isfinite(block)
            one, other = labelled.pids[first], labelled.pids[second]
            by_identity = np.bincount(one, there.sum(axis=1), identities)
            by_identity += np.bincount(other, there.sum(axis=0), identities)
            near = np.nonzero(block <= largest)
            distances, both = block[near], np.stack([one[near[0]], other[near[1]]])
            for kind in kinds:
                pairs[kind] += by_identity
                for place, threshold in enumerate(thresholds[kind]):
                    accepted[kind][place] += np.bincount(both[:, distances <= threshold].ravel(), minlength=identities)
        count(blocks.number(cameras))
    return {
        kind: [_jackknife(accepted[kind][place], pairs[kind]) for place in range(len(values))]
        for kind, values in thresholds.items()
    }


def _jackknife(accepted: np.ndarray, pairs: np.ndarray) -> Interval | None:
    """The interval of a rate, from the numbers of accepted pairs, and of all, that each identity is in."""
    total, all_pairs = accepted.sum() / 2, pairs.sum() / 2  # each pair is one of two identities
    there = pairs > 0
    left = all_pairs - pairs[there]
    if not total or (left <= 0).any():
        return None
    rates = (total - accepted[there]) / left
    count, rate = len(rates), total / all_pairs
    error = math.sqrt((count - 1) / count * float(((rates - rates.mean()) ** 2).sum()))
    factor = math.exp(min(_NORMAL * error / rate, 100.0))  # beyond that the interval is 0 to 1 anyway
    return float(rate / factor), float(min(1.0, rate * factor))

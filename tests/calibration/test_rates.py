"""Rates that pairs support, and their intervals."""

import numpy as np
import pytest
from scipy.stats import binom

from svllreid import verify_features
from svllreid.calibration.pairs import LabelledFeatures
from svllreid.calibration.rates import curve_of, identity_intervals, pair_intervals, point_at


def test_the_interval_is_that_of_clopper_and_pearson():
    low, high = pair_intervals(np.array([0, 10, 1000]), 1000)
    assert low[0] == 0 and high[2] == 1
    assert high[0] == pytest.approx(1 - 0.025 ** (1 / 1000))
    # At the ends, seeing so many or more, and so many or fewer, each have a probability of 2.5 %.
    assert binom.sf(9, 1000, low[1]) == pytest.approx(0.025)
    assert binom.cdf(10, 1000, high[1]) == pytest.approx(0.025)


def verification(impostors):
    """Two genuine pairs at 1 and 3, and impostor pairs at 2, 4, 5, ..."""
    gallery = np.concatenate([[1.0, 3.0, 2.0], np.arange(4.0, 3.0 + impostors)])[:, None]
    return verify_features(np.zeros((1, 1)), gallery, ["ann"], ["ann", "ann", *["eve"] * impostors])


def test_a_rate_needs_ten_false_accepts():
    assert point_at(verification(999), 0.01).threshold is None
    point = point_at(verification(1000), 0.01)
    assert (point.needed, point.threshold, point.false_accepts, point.true_accept_rate) == (1000, 3.0, 1, 1.0)
    assert point.interval[0] < 0.001 < point.interval[1]
    assert point_at(verification(1000), 0.001).needed == 10_000


def test_the_curve_holds_thresholds_and_both_ends():
    random = np.random.default_rng(0)
    features, pids = random.normal(size=(400, 3)), np.arange(400) % 50
    found = verify_features(features[:200], features[200:], pids[:200], pids[200:])
    points = tuple(point_at(found, rate) for rate in (0.01, 0.001))
    curve = curve_of(found, points)
    assert {point.threshold for point in points if point.threshold is not None} <= set(curve.distances)
    assert curve.distances[0] == found.thresholds[0] and curve.distances[-1] == found.thresholds[-1]
    assert len(curve.distances) <= 260
    shares = np.array(curve.false_accepts) / found.num_impostor
    assert ((np.array(curve.low) <= shares) & (shares <= np.array(curve.high))).all()


def test_the_interval_over_identities_is_that_of_leaving_each_out(people):
    features, pids, camids = people
    labelled = LabelledFeatures(features, pids, camids)
    ((low, high),) = identity_intervals(labelled, {"all": [0.8]})["all"]
    first, second = np.triu_indices(len(pids), 1)
    other = pids[first] != pids[second]
    first, second = first[other], second[other]
    near = np.linalg.norm(features[first].astype(float) - features[second], axis=1) <= 0.8
    rates = []
    for pid in range(60):
        without = (pids[first] != pid) & (pids[second] != pid)
        rates.append(near[without].mean())
    error = np.sqrt(59 / 60 * ((rates - np.mean(rates)) ** 2).sum())
    assert (low, high) == pytest.approx(
        (near.mean() / np.exp(1.959964 * error / near.mean()), near.mean() * np.exp(1.959964 * error / near.mean()))
    )
    # Pairs of the same two people are alike, so this interval is wider than that over pairs.
    pair_low, pair_high = pair_intervals(np.array([near.sum()]), len(near))
    assert low < pair_low[0] and high > pair_high[0]


def test_without_false_accepts_identities_give_no_interval(people):
    assert identity_intervals(LabelledFeatures(*people), {"all": [0.0]})["all"] == [None]

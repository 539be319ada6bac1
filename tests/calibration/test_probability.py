"""The probability by distance, fitted and judged."""

import numpy as np
import pytest

from svllreid.calibration.probability import (
    DrawnPairs,
    balanced_weights,
    fit_probability,
    held_out_probabilities,
    reliability,
)
from svllreid.errors import EvaluationError


def pairs_of(distances, genuine, pids=None):
    distances, genuine = np.asarray(distances, float), np.asarray(genuine, bool)
    pids = np.zeros((len(genuine), 2), int) if pids is None else np.asarray(pids)
    return DrawnPairs(distances, genuine, pids, np.zeros((len(genuine), 2), int))


@pytest.fixture(scope="module")
def known():
    """Pairs whose true probability, at prior 0.5, is 1 / (1 + exp(8 (d − 1))): ten impostors for a genuine one."""
    random = np.random.default_rng(0)
    distances = random.uniform(0, 2, 200_000)
    genuine = random.random(len(distances)) < 1 / (1 + np.exp(8 * (distances - 1)))
    kept = genuine & (random.random(len(distances)) < 0.1) | ~genuine
    return pairs_of(distances[kept], genuine[kept])


def probability(model, distances):
    return 1 / (1 + np.exp(-model.log_odds(np.asarray(distances, float))))


@pytest.mark.parametrize("method", ["logistic", "isotonic"])
def test_the_true_probability_is_found_whatever_the_numbers_of_pairs(known, method):
    model = fit_probability(known, method)
    at = np.array([0.4, 0.8, 1.0, 1.2, 1.6])
    np.testing.assert_allclose(probability(model, at), 1 / (1 + np.exp(8 * (at - 1))), atol=0.03)


def test_both_kinds_weigh_the_same():
    weights = balanced_weights(np.array([True, False, False, False]))
    np.testing.assert_allclose(weights, [2, 2 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize("method", ["logistic", "isotonic"])
def test_separable_pairs_give_no_certainty(method):
    model = fit_probability(pairs_of([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0]), method)
    near, far = probability(model, [0.0, 1.0])
    assert 0.5 < near < 1 and 0 < far < 0.5


def test_isotonic_knots_by_hand():
    # One violation, at 2 and 3, is pooled; both kinds have two pairs, and one more would leave 1/4 and 3/4.
    model = fit_probability(pairs_of([1, 2, 3, 4], [1, 0, 1, 0]), "isotonic")
    np.testing.assert_allclose(probability(model, [1, 2, 3, 4]), [0.75, 0.5, 0.5, 0.25])


@pytest.mark.parametrize("method", ["logistic", "isotonic"])
def test_a_probability_never_rises_with_the_distance(method):
    model = fit_probability(pairs_of([1, 2, 3, 4], [0, 0, 1, 1]), method)
    np.testing.assert_allclose(probability(model, [0, 1, 5]), 0.5)


def test_an_unknown_method_is_refused():
    with pytest.raises(EvaluationError, match="method 'other' is not known; choose one of logistic, isotonic"):
        fit_probability(pairs_of([1, 2], [1, 0]), "other")


def test_no_pair_is_judged_by_a_fit_to_its_identities(monkeypatch):
    random = np.random.default_rng(1)
    pids = random.integers(0, 20, (3000, 2))
    genuine = pids[:, 0] == pids[:, 1]
    pairs = pairs_of(np.where(genuine, 1.0, 2.0) + random.random(3000), genuine, pids)
    fitted = []
    monkeypatch.setattr(
        "svllreid.calibration.probability.fit_probability",
        lambda given, method: fitted.append(set(given.pids.ravel().tolist())) or fit_probability(given, method),
    )
    judged, values = held_out_probabilities(pairs, "logistic", seed=0)
    assert len(fitted) == 5 and len(values) == len(judged.genuine)
    for seen in fitted:
        assert len(seen) == 16
    parts = [set(range(20)) - seen for seen in fitted]
    assert set.union(*parts) == set(range(20))
    assert all(any({one, other} <= part for part in parts) for one, other in judged.pids.tolist())


def test_too_few_identities_judge_nothing():
    assert held_out_probabilities(pairs_of([1, 2], [1, 0], [[0, 0], [0, 1]]), "logistic", 0) is None


def test_reliability_by_hand():
    genuine, said = np.array([True, True, False, False]), np.array([0.95, 0.45, 0.45, 0.05])
    found = reliability(genuine, said)
    assert found.brier == pytest.approx((0.05**2 + 0.55**2 + 0.45**2 + 0.05**2) / 4)
    assert found.weights == pytest.approx([0.25, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.25])
    assert found.probabilities[4] == pytest.approx(0.45) and found.shares[4] == pytest.approx(0.5)
    assert found.probabilities[1] is None and found.shares[1] is None
    assert found.calibration_error == pytest.approx(0.25 * 0.05 + 0.5 * 0.05 + 0.25 * 0.05)
    assert reliability(np.array([True]), np.array([0.5])) is None

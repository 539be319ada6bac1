"""Intervals over the queries."""

import numpy as np
import pytest

from svllreid.errors import EvaluationError
from svllreid.evaluation.confidence import bootstrap
from svllreid.evaluation.ranking import evaluate_features


@pytest.fixture(scope="module")
def ranking():
    random = np.random.default_rng(0)
    centres = random.standard_normal((30, 8))
    pids = random.integers(0, 30, 400), random.integers(0, 40, 600)  # some queries' pids have no gallery image
    feats = [centres[pid % 30] + random.standard_normal((len(pid), 8)) for pid in pids]
    return evaluate_features(*feats, pids[0], pids[1])


def test_width_is_that_of_the_normal_approximation(ranking):
    precision = ranking.average_precisions[ranking.num_matches > 0]
    low, high = bootstrap(ranking, draws=4000)["mAP"]
    width = 2 * 1.96 * precision.std() / np.sqrt(len(precision))
    assert high - low == pytest.approx(width, rel=0.06)
    assert (low + high) / 2 == pytest.approx(ranking.mean_ap, abs=width / 20)


def test_every_measure_lies_in_its_interval(ranking):
    found = bootstrap(ranking)
    means = {"mAP": ranking.mean_ap, "mINP": ranking.mean_inp, **{f"rank{k}": ranking.cmc[k - 1] for k in (1, 5, 10)}}
    assert set(found) == set(means)
    for name, (low, high) in found.items():
        assert low <= means[name] <= high and low < high, name


def test_seeded_and_cut_into_blocks_alike(ranking, monkeypatch):
    assert bootstrap(ranking, seed=3) == bootstrap(ranking, seed=3) != bootstrap(ranking, seed=4)
    whole = bootstrap(ranking, draws=50)
    monkeypatch.setattr("svllreid.evaluation.confidence._DRAWS_AT_ONCE", 1)
    assert bootstrap(ranking, draws=50) == whole


def test_one_query_has_no_width():
    ranking = evaluate_features(np.zeros((1, 1)), np.array([[1.0], [2.0]]), [1], [2, 1])
    assert bootstrap(ranking)["mAP"] == (0.5, 0.5)


def test_one_draw_is_refused(ranking):
    with pytest.raises(EvaluationError, match="1 draws"):
        bootstrap(ranking, draws=1)

"""Intervals over the queries."""

import numpy as np
import pytest

from svllreid.errors import EvaluationError
from svllreid.evaluation.confidence import bootstrap
from svllreid.evaluation.ranking.measures import evaluate_features

QUERIES, IDENTITIES = 400, 30


@pytest.fixture(scope="module")
def ranked():
    """A ranking and the queries' identities, some of which the gallery lacks."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((IDENTITIES, 8))
    pids = random.integers(0, 40, QUERIES), random.integers(0, IDENTITIES, 600)
    feats = [centres[pid % IDENTITIES] + random.standard_normal((len(pid), 8)) for pid in pids]
    return evaluate_features(*feats, pids[0], pids[1]), pids[0]


def test_width_is_that_of_the_normal_approximation_where_queries_are_alone(ranked):
    ranking, _ = ranked
    precision = ranking.average_precisions[ranking.num_matches > 0]
    low, high = bootstrap(ranking, np.arange(QUERIES), draws=4000)["mAP"]
    width = 2 * 1.96 * precision.std() / np.sqrt(len(precision))
    assert high - low == pytest.approx(width, rel=0.06)
    assert (low + high) / 2 == pytest.approx(ranking.mean_ap, abs=width / 20)


def test_identities_are_drawn_whole():
    """Two identities with twenty equal queries each: both draws may be the same one."""
    queries = np.repeat([[0.0], [10.0]], 20, axis=0)
    pids = np.repeat([1, 2], 20)
    ranking = evaluate_features(queries, np.array([[0.0], [10.0], [10.1], [0.1]]), pids, [1, 3, 2, 4])
    assert sorted(set(ranking.average_precisions.tolist())) == [0.5, 1.0]
    assert bootstrap(ranking, pids)["mAP"] == (0.5, 1.0)
    low, high = bootstrap(ranking, np.arange(40))["mAP"]
    assert 0.6 < low < high < 0.9


def test_every_measure_lies_in_its_interval(ranked):
    ranking, pids = ranked
    found = bootstrap(ranking, pids)
    means = {"mAP": ranking.mean_ap, "mINP": ranking.mean_inp, **{f"rank{k}": ranking.cmc[k - 1] for k in (1, 5, 10)}}
    assert set(found) == set(means)
    for name, (low, high) in found.items():
        assert low <= means[name] <= high and low < high, name
    assert ranking.measures() == pytest.approx(means, abs=1e-12)


def test_seeded_and_cut_into_blocks_alike(ranked, monkeypatch):
    assert bootstrap(*ranked, seed=3) == bootstrap(*ranked, seed=3) != bootstrap(*ranked, seed=4)
    whole = bootstrap(*ranked, draws=50)
    monkeypatch.setattr("svllreid.evaluation.confidence._DRAWS_AT_ONCE", 1)
    assert bootstrap(*ranked, draws=50) == whole


def test_one_query_has_no_width():
    ranking = evaluate_features(np.zeros((1, 1)), np.array([[1.0], [2.0]]), [1], [2, 1])
    assert bootstrap(ranking, ["anna"])["mAP"] == (0.5, 0.5)


def test_bad_arguments_are_refused(ranked):
    with pytest.raises(EvaluationError, match="draws is 1; use a whole number of at least 2"):
        bootstrap(*ranked, draws=1)
    with pytest.raises(EvaluationError, match="3 q_pids for 400 queries"):
        bootstrap(ranked[0], [1, 2, 3])

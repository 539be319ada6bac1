"""ROC, equal error rate and thresholds: by hand, and against every pair and every threshold in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import svllreid
from svllreid.errors import EvaluationError
from svllreid.evaluation import verification as module
from svllreid.evaluation.ranking import distance
from svllreid.evaluation.verification import verify_features


def by_every_pair(
    q_feats: Any, g_feats: Any, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any
) -> tuple[Any, ...]:
    """Distances of genuine pairs and of impostors, one pair after the other, as float32 holds them."""
    genuine, impostor = [], []
    for i, query in enumerate(q_feats.astype(np.float64)):
        for j, image in enumerate(g_feats.astype(np.float64)):
            gap = np.float32(np.sqrt(((query - image) ** 2).sum()))
            if q_pids[i] != g_pids[j]:
                impostor.append(gap)
            elif q_camids is None or q_camids[i] != g_camids[j]:
                genuine.append(gap)
    return np.array(genuine), np.array(impostor)


def test_by_hand() -> None:
    # one query at 0; genuine pairs at 1, 3, 5; impostors at 2, 3, 6, 7
    gallery = np.array([[1.0], [3.0], [5.0], [2.0], [3.0], [6.0], [7.0]], np.float32)
    found = verify_features(np.zeros((1, 1), np.float32), gallery, [1], [1, 1, 1, 2, 2, 2, 2])
    assert found.thresholds.tolist() == [1, 3, 5]
    assert found.true_accept_rates.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert found.false_accept_rates.tolist() == [0, 0.5, 0.5]
    assert found.auc == pytest.approx((4 + 2.5 + 2) / 12)  # nearer than 4, than 2 and a tie, than 2
    # from (1/4, 1/3) to the tie (1/2, 2/3): false accepts meet false rejects at 1/4 + t/4 = 1 - 1/3 - t/3
    assert found.equal_error_rate == pytest.approx(1 / 4 + (5 / 12) / (7 / 12) / 4)
    assert found.at(0.3).true_accept_rate == pytest.approx(1 / 3)
    assert (found.at(0.3).threshold, found.at(0.3).false_accept_rate) == (1, 0)
    assert (found.at(0.5).threshold, found.at(0.5).true_accept_rate) == (5, 1)
    assert (found.num_genuine, found.num_impostor) == (3, 4)
    assert found.at_equal_error().threshold == 1


def test_no_threshold_within_the_rate() -> None:
    found = verify_features(np.zeros((1, 1)), np.array([[2.0], [1.0]]), [1], [1, 2])
    point = found.at(0.5)
    assert (point.threshold, point.true_accept_rate, point.false_accept_rate) == (None, 0, 0)
    assert (found.auc, found.equal_error_rate) == (0, 1)


def test_perfect_features() -> None:
    features = np.eye(5, dtype=np.float32)
    found = verify_features(features, features, np.arange(5), np.arange(5))
    assert (found.auc, found.equal_error_rate, found.at(1e-4).true_accept_rate) == (1, 0, 1)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(2, 25), st.booleans(), st.integers(1, 3))
def test_equals_every_pair(seed: int, num_queries: int, num_gallery: int, cameras: bool, size: int) -> None:
    random = np.random.default_rng(seed)
    q_feats, g_feats = (random.integers(0, 4, (n, size)).astype(np.float32) for n in (num_queries, num_gallery))
    pids = random.integers(0, 4, num_queries), random.integers(0, 4, num_gallery)
    camids = (random.integers(0, 2, num_queries), random.integers(0, 2, num_gallery)) if cameras else (None, None)
    genuine, impostor = by_every_pair(q_feats, g_feats, *pids, *camids)
    assume(len(genuine) and len(impostor))
    found = verify_features(q_feats, g_feats, *pids, *camids)
    assert (found.num_genuine, found.num_impostor) == (len(genuine), len(impostor))
    np.testing.assert_array_equal(found.thresholds, np.unique(genuine))
    np.testing.assert_allclose(found.true_accept_rates, [(genuine <= t).mean() for t in found.thresholds])
    np.testing.assert_allclose(found.false_accept_rates, [(impostor <= t).mean() for t in found.thresholds])
    wins = (genuine[:, None] < impostor).mean() + (genuine[:, None] == impostor).mean() / 2
    assert found.auc == pytest.approx(wins, abs=1e-12)
    steps = np.unique(np.concatenate([genuine, impostor]))
    far, tar = ([0, *((kind <= t).mean() for t in steps)] for kind in (impostor, genuine))
    assert found.equal_error_rate == pytest.approx(np.interp(0, np.add(far, tar) - 1, far), abs=1e-12)
    for rate in (0, 0.1, 0.5, 1):
        best = max([(genuine <= t).mean() for t in steps if (impostor <= t).mean() <= rate], default=0)
        assert found.at(rate).true_accept_rate == pytest.approx(best)
        assert found.at(rate).false_accept_rate <= rate


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_thresholds_decide_as_counted(kind: type) -> None:
    """Squares so close that their roots are one float32 number: what is counted must be what a user compares."""
    random = np.random.default_rng(3)
    q_feats, g_feats = ((1 + 1e-6 * random.standard_normal((n, 1))).astype(kind) for n in (60, 400))
    q_feats, g_feats = np.pad(q_feats, ((0, 0), (0, 1))), np.pad(g_feats, ((0, 0), (1, 0)))
    q_pids, g_pids = random.integers(0, 2, 60), random.integers(0, 2, 400)
    found = verify_features(q_feats, g_feats, q_pids, g_pids)
    distances, genuine = svllreid.distances(q_feats, g_feats), q_pids[:, None] == g_pids
    squared = distance.squared_euclidean(q_feats, g_feats).numpy()
    assert len(np.unique(squared)) > 1.5 * len(np.unique(distances))
    for threshold, far, tar in zip(
        found.thresholds.tolist(), found.false_accept_rates, found.true_accept_rates, strict=True
    ):
        accepted = distances <= threshold
        assert accepted[genuine].mean() == pytest.approx(tar, abs=1e-12)
        assert accepted[~genuine].mean() == pytest.approx(far, abs=1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_blocks_change_nothing(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    q_feats, g_feats = (random.standard_normal((n, 6), dtype=np.float32) for n in (300, 700))
    labels = [random.integers(0, high, n) for high in (20, 3) for n in (300, 700)]
    told: list[tuple[int, int]] = []
    whole = verify_features(q_feats, g_feats, *labels, metric=metric)
    monkeypatch.setitem(distance._BLOCK_BYTES, "cpu", 1)
    monkeypatch.setitem(distance._TILE_SIDES, "cpu", (64, 512))
    monkeypatch.setattr(module, "_PIECE_NUMBERS", 1)
    found = verify_features(q_feats, g_feats, *labels, metric=metric, progress=lambda *now: told.append(now))
    np.testing.assert_allclose(found.roc, whole.roc, atol=1e-4)
    assert found.auc == pytest.approx(whole.auc, abs=1e-6)
    assert told[-1] == (600, 600) and len(told) == 6


def test_cosine_thresholds_are_one_minus_cosine() -> None:
    found = verify_features(np.array([[1.0, 0]]), np.array([[0.0, 2], [-3, 0]]), [1], [1, 2], metric="cosine")
    assert found.thresholds.tolist() == [1]


@pytest.mark.parametrize(("pids", "words"), [([2, 3], "make a genuine pair"), ([1, 1], "make an impostor pair")])
def test_both_kinds_of_pairs_are_needed(pids: list[int], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        verify_features(np.zeros((1, 2)), np.ones((2, 2)), [1], pids)


def test_bad_rate_is_refused() -> None:
    found = verify_features(np.zeros((1, 1)), np.array([[1.0], [2.0]]), [1], [1, 2])
    with pytest.raises(EvaluationError, match=r"false_accept_rate is 1\.5; use a number from 0 to 1"):
        found.at(1.5)

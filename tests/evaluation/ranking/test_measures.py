"""CMC, mAP, mINP: hand-computed cases, the loop oracle, exact ties, refused input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranking_oracle
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking import distance, match_ranks
from svllreid.evaluation.ranking.distance import cosine, squared_euclidean
from svllreid.evaluation.ranking.measures import Ranking, evaluate_features, evaluate_ranking
from svllreid.evaluation.ranking.nearest import nearest
from svllreid.evaluation.ranking.rerank import RerankOptions, rerank


def check(found: Ranking, expected: ranking_oracle.Expected) -> None:
    np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-12)
    np.testing.assert_allclose(found.average_precisions, expected.average_precisions, rtol=1e-12)
    assert found.mean_ap == pytest.approx(expected.mean_ap, abs=1e-12)
    assert found.mean_inp == pytest.approx(expected.mean_inp, abs=1e-12)
    assert found.num_valid_queries == expected.num_valid_queries


def same(one: Ranking, other: Ranking) -> None:
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


def test_hand_computed_with_junk() -> None:
    found = evaluate_ranking(
        [[0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5]],
        [1, 2, 9],
        [1, 2, 1, 2, 1],
        [0, 0, 0],
        [0, 1, 1, 1, 1],
        max_rank=4,
    )
    # query 0: column 0 is junk; matches at ranks 2 and 4 of 2 1 2 1; query 1: ranks 2 and 4; query 2: none
    assert found.cmc.tolist() == [0, 1, 1, 1]
    assert found.average_precisions[:2].tolist() == [0.5, 0.5]
    assert np.isnan(found.average_precisions[2])
    assert found.inverse_precisions[:2].tolist() == [0.5, 0.5]
    assert found.first_match_ranks.tolist() == [2, 2, 0]
    assert found.num_matches.tolist() == [2, 2, 0]
    assert (found.mean_ap, found.mean_inp, found.num_valid_queries) == (0.5, 0.5, 2)


def test_precision_is_plain_not_trapezoidal() -> None:
    found = evaluate_ranking(np.array([[1.0, 2, 3, 4, 5]]), ["a"], ["a", "b", "a", "c", "a"])
    assert found.mean_ap == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert found.mean_inp == pytest.approx(3 / 5)


def test_curve_is_flat_beyond_the_gallery() -> None:
    found = evaluate_ranking(np.array([[2.0, 1.0]]), [1], [1, 2], max_rank=6)
    assert found.cmc.tolist() == [0, 1, 1, 1, 1, 1]


def test_perfect_features_and_one_image_identities() -> None:
    pids = np.arange(12)
    features = np.eye(12, dtype=np.float32)
    found = evaluate_features(features, features, pids, pids)
    assert (found.cmc[0], found.mean_ap, found.mean_inp) == (1, 1, 1)


def test_equal_distances_keep_the_gallery_order() -> None:
    found = evaluate_ranking(np.zeros((1, 6)), [1], [2, 1, 1, 3, 1, 2], [0], [0, 0, 1, 0, 1, 0])
    assert found.average_precisions[0] == pytest.approx((1 / 2 + 2 / 4) / 2)  # column 1 is junk


def test_infinite_distances_rank_last_and_tie() -> None:
    distmat = np.array([[np.inf, 1, np.inf, np.inf]], np.float32)
    check(
        evaluate_ranking(distmat, [1], [2, 1, 1, 1], [0], [0, 1, 1, 0]),
        ranking_oracle.ranking(distmat, [1], [2, 1, 1, 1], [0], [0, 1, 1, 0]),
    )


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_queries, num_gallery = draw(st.integers(1, 12)), draw(st.integers(1, 40))
    identities, cameras = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    names = [f"id{i}" for i in range(identities)] if draw(st.booleans()) else np.arange(identities)
    labels = {
        "q_pids": [names[i] for i in random.integers(0, identities, num_queries)],
        "g_pids": [names[i] for i in random.integers(0, identities, num_gallery)],
    }
    if draw(st.booleans()):
        labels["q_camids"] = random.integers(0, cameras, num_queries)
        labels["g_camids"] = random.integers(0, cameras, num_gallery)
    values, dimensions = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    return {
        "labels": labels,
        "q_feats": random.integers(-values, values, (num_queries, dimensions)).astype(np.float32),
        "g_feats": random.integers(-values, values, (num_gallery, dimensions)).astype(np.float32),
        "random": random,
    }


def counted(labels: dict[str, Any]) -> bool:
    queries = range(len(labels["q_pids"]))
    cameras = labels.get("q_camids"), labels.get("g_camids")
    for query in queries:
        junk = ranking_oracle.junk_of(query, labels["q_pids"], labels["g_pids"], *cameras)
        if any(p == labels["q_pids"][query] and not j for p, j in zip(labels["g_pids"], junk, strict=True)):
            return True
    return False


@settings(deadline=None, max_examples=100)
@given(problems(), st.integers(1, 60), st.booleans())
def test_ties_are_exact_against_the_oracle(problem: dict[str, Any], max_rank: int, tensor: bool) -> None:
    labels, (q_feats, g_feats) = problem["labels"], (problem["q_feats"], problem["g_feats"])
    assume(counted(labels))
    exact = ((q_feats.astype(np.float64)[:, None] - g_feats) ** 2).sum(-1)
    expected = ranking_oracle.ranking(exact, **labels, max_rank=max_rank)
    check(evaluate_ranking(torch.from_numpy(exact) if tensor else exact, **labels, max_rank=max_rank), expected)
    check(evaluate_features(q_feats, g_feats, **labels, max_rank=max_rank), expected)


@settings(deadline=None, max_examples=50)
@given(problems())
def test_order_of_the_gallery_does_not_matter_without_ties(problem: dict[str, Any]) -> None:
    labels, random = problem["labels"], problem["random"]
    assume(counted(labels))
    distmat = random.permutation(len(labels["q_pids"]) * len(labels["g_pids"])).astype(np.float32)
    distmat = distmat.reshape(len(labels["q_pids"]), -1)  # (Nq, Ng), all different
    order = random.permutation(distmat.shape[1])
    moved = {name: np.asarray(v)[order] if name.startswith("g_") else v for name, v in labels.items()}
    same(evaluate_ranking(distmat, **labels), evaluate_ranking(distmat[:, order], **moved))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_blocks_equal_the_whole_matrix(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(distance._TILE_SIDES, "cpu", (64, 512))
    random = np.random.default_rng(3)
    g_feats = random.standard_normal((1100, 24), dtype=np.float32)
    g_feats[800:] = g_feats[random.integers(0, 800, 300)]
    q_feats = random.standard_normal((150, 24), dtype=np.float32)
    labels = [random.integers(0, high, count) for high in (30, 4) for count in (150, 1100)]
    whole = {"euclidean": squared_euclidean, "cosine": cosine}[metric](q_feats, g_feats)
    expected = evaluate_ranking(whole, *labels)
    check(expected, ranking_oracle.ranking(whole.tolist(), *labels))
    for block_rows, scratch in ((None, 32 << 20), (1, 1 << 16), (64, 1 << 17), (128, 1 << 18)):
        monkeypatch.setattr(match_ranks, "_SCRATCH_BYTES", scratch)
        same(evaluate_features(q_feats, g_feats, *labels, metric=metric, block_rows=block_rows), expected)
        same(evaluate_ranking(whole, *labels), expected)


def test_float64_is_compared_in_float64() -> None:
    features = np.array([[1.0], [1.0 + 1e-6], [1.0 + 2e-6]])
    assert evaluate_features(features[:1], features[[2, 1]], [0], [1, 0]).cmc[0] == 1
    narrow = features.astype(np.float32)
    assert evaluate_features(narrow[:1], narrow[[2, 1]], [0], [1, 0]).cmc[0] == 0


@pytest.mark.usefixtures("two_threads")
def test_reranked_blocks_equal_the_whole_matrix() -> None:
    random = np.random.default_rng(4)
    q_feats, g_feats = (random.standard_normal((n, 8), dtype=np.float32) for n in (150, 260))
    labels = [random.integers(0, high, count) for high in (9, 3) for count in (150, 260)]
    expected = evaluate_ranking(rerank(q_feats, g_feats, k1=9, k2=4, lambda_value=0.2), *labels)
    for block_rows in (None, 100):
        options = RerankOptions(k1=9, k2=4, lambda_value=0.2)
        same(evaluate_features(q_feats, g_feats, *labels, rerank=options, block_rows=block_rows), expected)


def test_memory_map_and_views_rank_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    g_feats = random.standard_normal((500, 12), dtype=np.float32)
    g_feats.tofile(tmp_path / "gallery")
    labels = [random.integers(0, high, count) for high in (20, 3) for count in (40, 500)]
    q_feats = random.standard_normal((40, 12), dtype=np.float32)
    expected = evaluate_features(q_feats, g_feats, *labels)
    mapped = np.memmap(tmp_path / "gallery", np.float32, "r", shape=g_feats.shape)
    same(evaluate_features(torch.from_numpy(q_feats), mapped, *map(torch.from_numpy, labels)), expected)
    distmat = squared_euclidean(q_feats, g_feats).numpy()
    frozen = np.asfortranarray(distmat)
    frozen.flags.writeable = False
    same(evaluate_ranking(frozen, *labels), expected)
    same(evaluate_ranking(distmat[:, ::-1], labels[0], labels[1][::-1], labels[2], labels[3][::-1]), expected)


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.float16, np.float64, torch.int64, torch.bfloat16])
def test_distances_of_other_types(kind: Any) -> None:
    values = np.random.default_rng(6).integers(0, 9, (5, 30))
    distmat = torch.from_numpy(values).to(kind) if isinstance(kind, torch.dtype) else values.astype(kind)
    pids = np.arange(5), np.arange(30) % 5
    check(evaluate_ranking(distmat, *pids), ranking_oracle.ranking(values, *pids))


@settings(deadline=None, max_examples=60)
@given(problems(), st.integers(1, 50))
def test_nearest_leaves_junk_out_and_fills_up(problem: dict[str, Any], k: int) -> None:
    labels, (q_feats, g_feats) = problem["labels"], (problem["q_feats"], problem["g_feats"])
    found = nearest(q_feats, g_feats, **labels, k=k)
    cameras = labels.get("q_camids"), labels.get("g_camids")
    for query, distances in enumerate(((q_feats[:, None] - g_feats) ** 2).sum(-1)):
        junk = ranking_oracle.junk_of(query, labels["q_pids"], labels["g_pids"], *cameras)
        expected = ranking_oracle.ranked(distances, junk)[:k]
        assert found[query].tolist() == expected + [-1] * (k - len(expected))


def test_nearest_without_labels() -> None:
    features = np.float32([[0], [5], [6]])
    assert nearest(features[:1], features, k=2).tolist() == [[0, 1]]


def test_progress_counts_up_to_all_queries() -> None:
    seen: list[tuple[int, int]] = []
    features = np.eye(300, dtype=np.float32)
    pids = np.arange(300)
    options = RerankOptions(k1=3, k2=2)
    for job in (
        lambda: evaluate_features(features, features, pids, pids, block_rows=128, progress=lambda *at: seen.append(at)),
        lambda: evaluate_features(features, features, pids, pids, rerank=options, progress=lambda *at: seen.append(at)),
        lambda: rerank(features, features, k1=3, k2=2, progress=lambda *at: seen.append(at)),
        lambda: nearest(features, features, progress=lambda *at: seen.append(at)),
        lambda: evaluate_ranking(features, pids, pids, progress=lambda *at: seen.append(at)),
    ):
        seen.clear()
        job()
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})
        assert len({total for _, total in seen}) == 1
        assert seen[-1][0] == seen[-1][1]


FEATURES, PIDS = np.eye(3, dtype=np.float32), [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q_pids": [1, 2]}, "q_pids: 2 entries for 3 query images"),
        ({"g_pids": [1, 2, 3, 4]}, "g_pids: 4 entries for 3 gallery images"),
        ({"q_camids": [0, 0, 0]}, "only one of q_camids and g_camids"),
        ({"q_camids": [0, 0, 0], "g_camids": [1, 1]}, "g_camids: 2 entries"),
        ({"q_pids": ["1", "2", "3"]}, "integers in both"),
        ({"q_pids": [1, "2", 3]}, "list of integers or of strings"),
        ({"q_pids": [1.0, 2.0, 3.0]}, "list of integers or of strings"),
        ({"q_pids": [[1], [2], [3]]}, "list of integers or of strings"),
        ({"g_pids": [7, 8, 9]}, "no query's pid is in the gallery"),
        ({"q_camids": [0, 0, 0], "g_camids": [0, 0, 0]}, "all matches are junk"),
        ({"max_rank": 0}, "max_rank is 0"),
        ({"q_pids": None}, "q_pids: None is no list"),
        ({"q_pids": np.array([2**64 - 1, 1, 2], np.uint64)}, "18446744073709551615 is larger than"),
    ],
)
def test_bad_labels_are_refused(change: dict[str, Any], words: str) -> None:
    arguments = {"q_pids": PIDS, "g_pids": PIDS} | change
    with pytest.raises(EvaluationError, match=words):
        evaluate_ranking(FEATURES, **arguments)
    with pytest.raises(EvaluationError, match=words):
        evaluate_features(FEATURES, FEATURES, **arguments)


@pytest.mark.parametrize(
    ("distmat", "words"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((0, 3)), "shape"),
        (np.zeros((3, 0)), "shape"),
        (np.zeros((3, 3), bool), "type bool"),
        (np.zeros((3, 3), object), "type object"),
        (np.float32([[0, 1, 2], [0, 1, 2], [0, np.nan, 2]]), "row 2 holds NaN"),
        ([[0.0, 1.0, 2.0], [0.0]], "distmat: .*rows all have the same length"),
    ],
)
def test_bad_distances_are_refused(distmat: np.ndarray, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        evaluate_ranking(distmat, PIDS, PIDS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "manhattan"}, "euclidean, cosine"),
        ({"metric": "cosine", "rerank": RerankOptions()}, "leave metric out"),
        ({"rerank": True}, r"rerank is True; give RerankOptions\(\)"),
        ({"block_rows": 0}, "block_rows is 0"),
        ({"block_rows": 2.5}, "block_rows is 2.5"),
        ({"max_rank": 0}, "max_rank is 0; use a whole number of at least 1"),
        ({"max_rank": "10"}, "max_rank is '10'"),
        ({"max_rank": float("nan")}, "max_rank is nan"),
        ({"max_rank": True}, "max_rank is True"),
    ],
)
def test_bad_options_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        evaluate_features(FEATURES, FEATURES, PIDS, PIDS, **change)
    if "max_rank" in change:
        with pytest.raises(EvaluationError, match=words):
            evaluate_ranking(np.zeros((len(PIDS), len(PIDS))), PIDS, PIDS, **change)
    for k in (0, 2.5, None):
        with pytest.raises(EvaluationError, match=f"k is {k}"):
            nearest(FEATURES, FEATURES, k=k)


def test_whole_numbers_may_be_floats() -> None:
    distmat = np.random.default_rng(0).random((len(PIDS), len(PIDS)))
    for rank in (2.0, np.float32(2), np.int8(2)):
        assert evaluate_ranking(distmat, PIDS, PIDS, max_rank=rank).cmc.shape == (2,)
        assert evaluate_features(FEATURES, FEATURES, PIDS, PIDS, max_rank=rank, block_rows=64.0).cmc.shape == (2,)
        assert nearest(FEATURES, FEATURES, k=rank).shape == (len(FEATURES), 2)

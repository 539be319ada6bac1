"""Re-ranking against its definition in float64 loops, its limits and its refused input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ranking_oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking import neighbourhoods as module
from svllreid.evaluation.ranking import neighbourhoods_gpu, neighbours
from svllreid.evaluation.ranking.blocks import ProgressCounter
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.ranking.rerank import Reranker, RerankOptions, rerank


def clustered(seed: int, num_queries: int, num_gallery: int, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((6, 16))
    features = centres[random.integers(0, 6, num_queries + num_gallery)]
    features = (features + noise * random.standard_normal(features.shape)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features[:num_queries], features[num_queries:]


@pytest.mark.parametrize(
    ("k1", "k2", "lambda_value"),
    [(20, 6, 0.3), (50, 15, 0.3), (7, 1, 0.5), (1, 3, 0.1), (5, 9, 0.0), (4, 2, 1.0), (9, 30, 0.3), (1000, 1000, 0.3)],
)
def test_equals_the_definition(k1: int, k2: int, lambda_value: float) -> None:
    q_feats, g_feats = clustered(0, 20, 70)
    found = rerank(q_feats, g_feats, k1=k1, k2=k2, lambda_value=lambda_value)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    expected = ranking_oracle.rerank(q_feats, g_feats, k1, k2, lambda_value)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 25), st.integers(1, 12), st.integers(1, 8))
def test_ties_are_stable(seed: int, num_queries: int, num_gallery: int, k1: int, k2: int) -> None:
    random = np.random.default_rng(seed)
    features = random.integers(-2, 3, (num_queries + num_gallery, 2)).astype(np.float32)
    q_feats, g_feats = features[:num_queries], features[num_queries:]
    found = rerank(q_feats, g_feats, k1=k1, k2=k2)
    np.testing.assert_allclose(found, ranking_oracle.rerank(q_feats, g_feats, k1, k2, 0.3), atol=2e-6)


@pytest.mark.parametrize("k2", [1, 5])
def test_block_and_chunk_sizes_change_nothing(k2: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q_feats, g_feats = clustered(1, 150, 200)
    q_feats[100:], g_feats[150:] = q_feats[7], q_feats[7]  # more copies than a list holds: some lists stay empty
    expected = rerank(q_feats, g_feats, k1=12, k2=k2)
    monkeypatch.setattr(module, "_BLOCK_NUMBERS", 5000)
    monkeypatch.setattr(neighbours, "_PAIR_BYTES", 4096)
    monkeypatch.setattr(module, "_CHUNK_PAIRS", 100)
    monkeypatch.setattr(module, "_CACHE_NUMBERS", 1)
    np.testing.assert_array_equal(rerank(q_feats, g_feats, k1=12, k2=k2), expected)


def test_near_ties_at_a_list_end_are_settled_in_float64() -> None:
    angles = np.linspace(0, 0.3, 60)
    features = np.stack([2 + np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = rerank(features[::3], features, k1=5, k2=3)
    np.testing.assert_allclose(found, ranking_oracle.rerank(features[::3], features, 5, 3, 0.3), atol=2e-3)


def test_identical_images_have_no_distance() -> None:
    found = rerank(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), k1=6, k2=2)
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_tensors_give_a_tensor_and_other_float_types_count_as_float32() -> None:
    q_feats, g_feats = clustered(2, 10, 30)
    expected = rerank(q_feats, g_feats, k1=5, k2=2)
    found = rerank(torch.from_numpy(q_feats).double(), g_feats.astype(np.float64), k1=5, k2=2)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k1": 0}, "k1 is 0"),
        ({"k1": 2.5}, "k1 is 2.5"),
        ({"k1": True}, "k1 is True"),
        ({"k1": "9"}, "k1 is '9'; use a whole number"),
        ({"k2": float("inf")}, "k2 is inf"),
        ({"lambda_value": "0.3"}, "lambda_value is '0.3'; use a number from 0 to 1"),
        ({"lambda_value": True}, "lambda_value is True"),
        ({"k2": -1}, "k2 is -1"),
        ({"lambda_value": 1.5}, "lambda_value is 1.5"),
        ({"lambda_value": float("nan")}, "lambda_value is nan"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        RerankOptions(**options)
    with pytest.raises(EvaluationError, match=words):
        rerank(*clustered(3, 2, 3), **options)


def test_whole_numbers_may_be_floats() -> None:
    q_feats, g_feats = clustered(3, 2, 3)
    options = RerankOptions(k1=4.0, k2=np.int64(2), lambda_value=1)  # type: ignore[arg-type]
    assert options == RerankOptions(4, 2, 1.0)
    assert [type(value) for value in (options.k1, options.k2, options.lambda_value)] == [int, int, float]
    np.testing.assert_array_equal(
        rerank(q_feats, g_feats, k1=np.float64(4), k2=2.0),  # type: ignore[arg-type]
        rerank(q_feats, g_feats, k1=4, k2=2),
    )


def test_bad_features_are_refused_by_their_own_name() -> None:
    q_feats, g_feats = clustered(3, 2, 3)
    g_feats[1, 4] = np.nan
    with pytest.raises(EvaluationError, match="g_feats: row 1 holds NaN"):
        rerank(q_feats, g_feats)
    with pytest.raises(EvaluationError, match="q_feats has 16 dimensions, g_feats 5"):
        rerank(q_feats, np.ones((3, 5), np.float32))


def test_no_rounding_between_an_image_and_itself() -> None:
    features = np.random.default_rng(5).standard_normal((40, 16)).astype(np.float32) + 30
    query, gallery = Features(features[:10], "q"), Features(features[10:], "g")
    reranker = Reranker(query, gallery, RerankOptions(3, 2), ProgressCounter(None, 1))
    assert reranker.neighbours.indices[:, 0].tolist() == list(range(40))
    assert not reranker.neighbours.near[:, 0].any()


@pytest.mark.parametrize(
    ("num_queries", "num_gallery", "k1", "k2"), [(40, 300, 20, 6), (40, 300, 20, 1), (5, 12, 50, 15)]
)
def test_the_way_of_a_gpu_finds_the_same_in_common(
    num_queries: int, num_gallery: int, k1: int, k2: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(1)
    centres = torch.randn(30, 16, generator=draw)
    features = centres[torch.randint(30, (num_queries + num_gallery,), generator=draw)]
    features = features + torch.randn(features.shape, generator=draw)
    features[8:11] = features[7]
    counter = ProgressCounter(None, 1)
    found = neighbours.find_neighbours(Features(features, "features"), (k1 + 1, round(k1 / 2) + 1, k2), counter)
    expected = module.Neighbourhoods(found, num_queries, k1, k2, counter).common(0, num_queries)
    for name, size in (("_DENSE_NUMBERS", 5000), ("_PAIRS", 1000), ("_FEATURE_NUMBERS", 64)):
        monkeypatch.setattr(neighbourhoods_gpu, name, size)
    others = neighbourhoods_gpu.GpuNeighbourhoods(found, num_queries, k1, k2, counter)
    torch.testing.assert_close(others.common(0, num_queries), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(others.common(2, 4), expected[2:4], rtol=0, atol=1e-6)
    assert expected.max() > 0.5

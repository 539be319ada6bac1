"""Distances: hand-computed values, agreement with float64, exact ties, refused input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import svllreid
from svllreid.errors import DeviceError, EvaluationError
from svllreid.evaluation.ranking import distance as module
from svllreid.evaluation.ranking import matrix
from svllreid.evaluation.ranking.distance import (
    PairwiseDistances,
    cosine,
    squared_euclidean,
)
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.ranking.topk import smallest


def test_hand_computed() -> None:
    q_feats, g_feats = np.float32([[0, 0], [3, 4]]), np.float32([[3, 4], [0, 1], [-3, -4]])
    assert squared_euclidean(q_feats, g_feats).tolist() == [[25, 1, 25], [0, 18, 100]]
    assert svllreid.distances(q_feats, g_feats)[:, 0].tolist() == [5, 0]
    assert torch.allclose(cosine(q_feats, g_feats), torch.tensor([[1, 1, 1], [0, 0.2, 2.0]]), atol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_agrees_with_float64(kind: type, metric: str) -> None:
    random = np.random.default_rng(0)
    q_feats, g_feats = random.standard_normal((150, 40)).astype(kind), random.standard_normal((2100, 40)).astype(kind)
    wide_q, wide_g = q_feats.astype(np.float64), g_feats.astype(np.float64)
    if metric == "euclidean":
        expected = ((wide_q[:, None] - wide_g) ** 2).sum(-1)
        found = squared_euclidean(q_feats, g_feats)
    else:
        lengths = np.linalg.norm(wide_q, axis=1)[:, None] * np.linalg.norm(wide_g, axis=1)
        expected, found = 1 - wide_q @ wide_g.T / lengths, cosine(q_feats, g_feats)
    assert found.dtype == (torch.float64 if kind is np.float64 else torch.float32)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12 if kind is np.float64 else 1e-4, atol=1e-6)


def test_bfloat16_and_gradients_are_read_as_float32() -> None:
    features = torch.randn(5, 8, requires_grad=True)
    assert squared_euclidean(features, features.bfloat16()).dtype == torch.float32


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_blocks_and_copies_of_rows_change_no_bit(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._TILE_SIDES, "cpu", (128, 1024))
    random = np.random.default_rng(1)
    g_feats = random.standard_normal((2500, 33), dtype=np.float32)
    copies = random.integers(0, 100, 900)
    g_feats[:100, 0] = 0.0
    g_feats[1600:] = g_feats[copies]
    g_feats[2000, 0] = -0.0
    distances = PairwiseDistances(
        Features(random.standard_normal((300, 33), dtype=np.float32), "q"), Features(g_feats, "g"), metric
    )
    whole = distances.rows(0, 300).clone()
    tile = distances.tile[0]
    for step in (tile, 2 * tile):
        parts = [distances.rows(start, min(start + step, 300)).clone() for start in range(0, 300, step)]
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(whole[:, 1600:], whole[:, copies])
    assert len(distances.copies) == 900


def test_copies_are_compared_in_full_where_their_fingerprints_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features(np.float32([[1, 2, 3], [4, 5, 6], [1, 2, 3], [3, 2, 1], [1, 2, 3]]), "g")
    for _ in range(2):
        distances = PairwiseDistances(features)
        assert distances.copies.tolist() == [2, 4]
        assert distances.origins.tolist() == [0, 0]
        monkeypatch.setattr(matrix, "_bits", lambda rows: torch.zeros(rows.shape, dtype=torch.int32))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(12, 1), (1, 12), (1, 1), (12, 3)])
def test_the_order_in_memory_does_not_matter(kind: type, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(2).standard_normal(shape).astype(kind)
    others = values[::-1] + 1
    expected = squared_euclidean(values, others)
    wide = np.repeat(np.repeat(values, 2, axis=0), 2, axis=1)
    for same in (
        np.asfortranarray(values),
        values[::-1].copy()[::-1],
        wide[::2, ::2],
        values.astype(values.dtype.newbyteorder()),
        torch.from_numpy(np.ascontiguousarray(values.T)).T,
    ):
        assert torch.equal(squared_euclidean(same, others), expected)
        assert torch.equal(squared_euclidean(values, same), squared_euclidean(values, values))


def test_devices_that_are_not_there_are_refused() -> None:
    for device in ("tpu", "cuda:99"):
        with pytest.raises(DeviceError, match="choose cpu"):
            squared_euclidean(GOOD, GOOD, device)


def test_memory_map_is_read_in_place(tmp_path: Path) -> None:
    values = np.random.default_rng(2).standard_normal((3000, 6), dtype=np.float32)
    values.tofile(tmp_path / "gallery")
    mapped = np.memmap(tmp_path / "gallery", np.float32, "r", shape=values.shape)
    assert torch.equal(squared_euclidean(values[:7], mapped), squared_euclidean(values[:7], values))


def test_zero_rows_have_cosine_distance_one() -> None:
    assert cosine(np.zeros((1, 3), np.float32), np.ones((2, 3), np.float32)).tolist() == [[1, 1]]


GOOD = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.ones(3, np.float32), "shape (3,)"),
        (np.ones((0, 3), np.float32), "empty"),
        (np.ones((3, 0), np.float32), "empty"),
        (np.ones((4, 3), np.int64), "float32"),
        (torch.ones(4, 3, dtype=torch.int32), "float32"),
        (np.ones((4, 3), object), "float32"),
        (np.ones((4, 3), complex), "float32"),
        (np.ones((4, 5), np.float32), "same model"),
        (np.float32([[1, 2, 3], [1, np.nan, 3]]), "row 1 holds NaN or infinity"),
        (np.float32([[1, np.inf, 3]]), "row 0 holds NaN or infinity"),
        (np.full((2, 3), 3e38, np.float32), "normalise"),
    ],
)
def test_bad_features_are_refused(bad: np.ndarray, words: str) -> None:
    for arguments in ((GOOD, bad), (bad, GOOD)):
        with pytest.raises(EvaluationError) as caught:
            squared_euclidean(*arguments)
        assert words in str(caught.value)


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(EvaluationError, match="euclidean, cosine"):
        PairwiseDistances(Features(GOOD, "q"), metric="manhattan")


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32 - 1), st.data())
def test_smallest_is_stable(rows: int, width: int, values: int, seed: int, data: st.DataObject) -> None:
    block = torch.from_numpy(np.random.default_rng(seed).integers(0, values, (rows, width)).astype(np.float32))
    k = data.draw(st.integers(1, width))
    found, columns = smallest(block, k)
    expected = np.argsort(block.numpy(), axis=1, kind="stable")[:, :k]
    assert columns.tolist() == expected.tolist()
    assert torch.equal(found, block.gather(1, columns))


def test_never_negative() -> None:
    features = np.random.default_rng(7).standard_normal((60, 30), dtype=np.float32) + 5
    for distances in (squared_euclidean(features, features), cosine(features, features)):
        assert distances.min() >= 0
    assert not np.isnan(svllreid.distances(features, features)).any()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_equal_rows_are_at_distance_zero(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._TILE_SIDES, "cpu", (64, 512))
    monkeypatch.setitem(module._BLOCK_BYTES, "cpu", 1)
    random = np.random.default_rng(4)
    g_feats = (random.standard_normal((700, 50)) + 3).astype(kind)
    g_feats[600:] = g_feats[:100]
    rows = random.integers(0, 700, 200)
    q_feats = np.concatenate([(random.standard_normal((9, 50)) + 3).astype(kind), g_feats[rows]])
    found = svllreid.distances(q_feats, g_feats)
    expected = (q_feats[:, None] == g_feats).all(axis=2)
    assert expected.sum() > 200
    np.testing.assert_array_equal(found == 0, expected)
    own = svllreid.distances(g_feats, g_feats)
    np.testing.assert_array_equal(own == 0, (g_feats[:, None] == g_feats).all(axis=2))


def test_distances_are_the_root_of_what_is_ranked_and_stay_where_they_were_given() -> None:
    random = np.random.default_rng(5)
    q_feats, g_feats = (random.standard_normal((n, 20)) for n in (40, 90))
    plain = np.sqrt(((q_feats[:, None] - g_feats) ** 2).sum(-1))
    for kind, atol in ((np.float32, 1e-5), (np.float64, 1e-6)):
        found = svllreid.distances(q_feats.astype(kind), g_feats.astype(kind))
        assert isinstance(found, np.ndarray) and found.dtype == np.float32
        np.testing.assert_allclose(found, plain, atol=atol)
        squared = squared_euclidean(q_feats.astype(kind), g_feats.astype(kind))
        np.testing.assert_array_equal(found, np.sqrt(squared.numpy()).astype(np.float32))
        tensors = svllreid.distances(torch.from_numpy(q_feats.astype(kind)), g_feats.astype(kind))
        assert isinstance(tensors, torch.Tensor) and torch.equal(tensors, torch.from_numpy(found))


@pytest.mark.parametrize(("a", "b", "words"), [([[1.0, 2]], [[1.0]], "a has 2 dim.*b 1"), ([1.0], [[1.0]], "a: shape")])
def test_distances_of_what_cannot_be_compared(a: list[float], b: list[float], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        svllreid.distances(a, b)

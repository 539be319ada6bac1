"""One analysis equals ranking, verification and camera comparison by themselves, from distances computed once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from svllreid.evaluation import verification
from svllreid.evaluation.analysis import analyse
from svllreid.evaluation.camera_pairs import compare_cameras
from svllreid.evaluation.ranking import blocks
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.measures import evaluate_features
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.evaluation.verification import verify_features

RANDOM = np.random.default_rng(5)
FEATURES = tuple(RANDOM.integers(0, 5, (count, 8)).astype(np.float32) for count in (150, 700))
LABELS = (
    RANDOM.integers(0, 9, 150),
    RANDOM.integers(0, 9, 700),
    RANDOM.integers(0, 3, 150),
    RANDOM.integers(0, 4, 700),
)


@pytest.fixture(params=["kept", "computed again"])
def computed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The first query of each block of plain distances that is computed."""
    if request.param == "computed again":
        monkeypatch.setitem(blocks.KEPT_BYTES, "cpu", 1000)
    original, starts = PairwiseDistances.rows, list[int]()

    def counted(self: PairwiseDistances, start: int, stop: int) -> torch.Tensor:
        if self.shape == (150, 700):
            starts.append(start)
        return original(self, start, stop)

    monkeypatch.setattr(PairwiseDistances, "rows", counted)
    monkeypatch.setattr(PairwiseDistances, "block_rows", lambda self: self.tile[0])
    monkeypatch.setattr("svllreid.evaluation.ranking.distance._TILE_SIDES", {"cpu": (64, 512)})
    yield starts


@pytest.mark.parametrize("rerank", [None, RerankOptions(6, 3)])
def test_an_analysis_equals_its_parts(computed: list[int], rerank: RerankOptions | None) -> None:
    progress: list[tuple[int, int]] = []
    found = analyse(*FEATURES, *LABELS, cameras=True, rerank=rerank, progress=lambda *now: progress.append(now))
    again = blocks.KEPT_BYTES["cpu"] == 1000
    assert computed == [0, 64, 128] * (2 if again else 1)
    assert progress[-1][0] == progress[-1][1]
    expected = evaluate_features(*FEATURES, *LABELS, rerank=rerank)
    for name, value in vars(expected).items():
        assert_array_equal(getattr(found.ranking, name), value)
    assert found.verification is not None and found.cameras is not None
    for name, value in vars(verify_features(*FEATURES, *LABELS)).items():
        assert_array_equal(getattr(found.verification, name), value)
    for name, value in vars(compare_cameras(*FEATURES, *LABELS)).items():
        assert_array_equal(getattr(found.cameras, name), value)


def test_without_impostors_there_is_a_reason_instead() -> None:
    found = analyse(np.zeros((1, 2)), np.ones((2, 2)), [1], [1, 1])
    assert found.verification is None and "impostor" in found.no_verification
    assert found.ranking.mean_ap == 1 and found.cameras is None


def test_a_gpu_counts_impostors_the_same_way() -> None:
    edges = np.unique(RANDOM.integers(0, 50, 20)).astype(np.float32)
    values = RANDOM.integers(0, 60, (7, 90)).astype(np.float32)
    values[0, :9] = np.inf
    found = verification._between(torch.from_numpy(values), torch.from_numpy(edges))
    expected = verification.between_sorted(values.copy(), edges)
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one[:-1], other[:-1])  # beyond the last edge nothing is asked

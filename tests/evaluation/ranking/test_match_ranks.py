"""The rank of every match: what a GPU computes equals what the CPU computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking import match_ranks as module
from svllreid.evaluation.ranking.match_ranks import MatchRanks
from svllreid.evaluation.ranking.matches import Matches


def collect(distances: np.ndarray, matches: Matches, step: int) -> tuple[np.ndarray, np.ndarray]:
    ranks = MatchRanks(matches)
    for start in range(0, len(distances), step):
        ranks.read(start, torch.from_numpy(distances[start : start + step].copy()))
    return ranks.result()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 30), st.integers(1, 6), st.booleans())
def test_the_way_of_a_gpu_gives_the_same_ranks(seed: int, nq: int, ng: int, values: int, cameras: bool) -> None:
    """On whole numbers, so that ties abound, and with infinities among the distances."""
    random = np.random.default_rng(seed)
    distances = random.integers(0, values, (nq, ng)).astype(np.float32)
    distances[random.random((nq, ng)) < 0.1] = np.inf
    pids = random.integers(0, 4, nq), random.integers(0, 4, ng)
    camids = (random.integers(0, 2, nq), random.integers(0, 2, ng)) if cameras else (None, None)
    matches = Matches((nq, ng), *pids, *camids)
    queries, expected = collect(distances, matches, 4)
    block = torch.from_numpy(distances.copy())
    rows, columns, junk = matches.pairs(0, nq)
    found = module._ranks_on_gpu(block, rows, columns, junk, 0)
    assert found.tolist() == expected.tolist() and queries.tolist() == rows[~junk].tolist()
    assert np.array_equal(block.numpy(), distances), "the block is left as it was"


def test_ties_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = np.zeros((1, 12), np.float32)
    matches = Matches((1, 12), [1], [1] * 12, None, None)
    monkeypatch.setattr(module, "_SORTED_NUMBERS", 24)
    rows, columns, junk = matches.pairs(0, 1)
    ranks = module._ranks_on_gpu(torch.from_numpy(distances), rows, columns, junk, 0)
    assert ranks.tolist() == list(range(1, 13))


def test_nan_is_refused_by_the_way_of_a_gpu() -> None:
    distances = torch.tensor([[0.0, 1.0], [0.0, torch.nan]])
    matches = Matches((2, 2), [1, 1], [1, 2], None, None)
    rows, columns, junk = matches.pairs(0, 2)
    with pytest.raises(EvaluationError, match="row 8 holds NaN"):
        module._ranks_on_gpu(distances, rows, columns, junk, 7)

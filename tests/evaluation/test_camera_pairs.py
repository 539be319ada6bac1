"""Cameras against cameras."""

import numpy as np
import pytest
import ranking_oracle
import torch

from svllreid.evaluation.camera_pairs import compare_cameras


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_each_pair_is_ranked_by_itself(kind):
    random = np.random.default_rng(1)
    q_feats, g_feats = random.standard_normal((40, 5)), random.standard_normal((90, 5))
    q_pids, g_pids = random.integers(0, 6, 40), random.integers(0, 6, 90)
    q_camids, g_camids = random.integers(0, 2, 40), random.integers(0, 3, 90)
    g_camids[g_pids == 5] = 0  # camera 1 never finds person 5 in camera 2
    told = []
    found = compare_cameras(
        kind(q_feats), kind(g_feats), q_pids, g_pids, q_camids, g_camids, progress=lambda *now: told.append(now)
    )
    assert found.q_cameras.tolist() == [0, 1] and found.g_cameras.tolist() == [0, 1, 2]
    distmat = ((q_feats[:, None] - g_feats) ** 2).sum(-1)
    for i in range(2):
        for j in range(3):
            if i == j:
                assert np.isnan(found.mean_ap[i, j]) and found.num_queries[i, j] == 0
                continue
            rows, columns = np.flatnonzero(q_camids == i), np.flatnonzero(g_camids == j)
            expected = ranking_oracle.ranking(distmat[np.ix_(rows, columns)], q_pids[rows], g_pids[columns])
            assert found.mean_ap[i, j] == pytest.approx(expected.mean_ap)
            assert found.rank1[i, j] == pytest.approx(expected.cmc[0])
            assert found.num_queries[i, j] == expected.num_valid_queries
    assert told[-1] == (40, 40)


def test_pair_without_a_match_is_blank():
    found = compare_cameras(np.zeros((1, 1)), np.ones((2, 1)), ["a"], ["a", "b"], [0], [1, 2])
    assert found.mean_ap[0, 0] == 1
    assert np.isnan(found.rank1[0, 1]) and found.num_queries.tolist() == [[1, 0]]

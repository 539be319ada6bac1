"""Which pairs of cameras are hard: the queries of one camera searched among the images of another alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from svllreid.evaluation.ranking.distance import ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.measures import evaluate_features


@dataclass(frozen=True)
class CameraPairs:
    """Metrics of each query camera against each gallery camera.

    Args:
        q_cameras, g_cameras: (Cq,) and (Cg,) int64, zero-based cameras, ascending.
        mean_ap, rank1: (Cq, Cg) float64 fractions, NaN where no query has a match.
        num_queries: (Cq, Cg) int64, queries with a match.
    """

    q_cameras: np.ndarray
    g_cameras: np.ndarray
    mean_ap: np.ndarray
    rank1: np.ndarray
    num_queries: np.ndarray


def compare_cameras(
    q_feats: Any,
    g_feats: Any,
    q_pids: Any,
    g_pids: Any,
    q_camids: Any,
    g_camids: Any,
    *,
    device: torch.device | str | None = None,
    progress: ProgressCallback | None = None,
) -> CameraPairs:
    """Rank the queries of each camera among the gallery images of each other camera.

    A camera against itself holds no match, as images of the query's pid and camera are junk.

    Args:
        q_feats, g_feats, q_pids, g_pids, device: see `evaluate_features`.
        q_camids, g_camids: (Nq,) and (Ng,) cameras.
        progress: called as `progress(done, total)`, in pairs of cameras.
    """
    sides = [np.asarray(values) for values in (q_camids, g_camids)]
    pids = [np.asarray(values) for values in (q_pids, g_pids)]
    cameras = [np.unique(side) for side in sides]
    shape = len(cameras[0]), len(cameras[1])
    mean_ap, rank1, counts = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64)
    tracker = ProgressCounter(progress, shape[0] * shape[1])
    for i, q_camera in enumerate(cameras[0]):
        q_rows = np.flatnonzero(sides[0] == q_camera)
        for j, g_camera in enumerate(cameras[1]):
            g_rows = np.flatnonzero(sides[1] == g_camera)
            labels = pids[0][q_rows], pids[1][g_rows]
            if q_camera != g_camera and np.isin(*labels).any():
                ranking = evaluate_features(q_feats[q_rows], g_feats[g_rows], *labels, max_rank=1, device=device)
                mean_ap[i, j], rank1[i, j] = ranking.mean_ap, ranking.cmc[0]
                counts[i, j] = ranking.num_valid_queries
            tracker.add(1)
    return CameraPairs(cameras[0], cameras[1], mean_ap, rank1, counts)

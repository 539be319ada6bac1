"""Which pairs of cameras are hard: the queries of one camera searched among the images of another alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from svllreid.evaluation.ranking.blocks import DistanceBlocks, ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.match_ranks import MatchRanks
from svllreid.evaluation.ranking.matches import Matches
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.ranking.measures import QueryMeasures


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


class CameraRanks:
    """Reads blocks of distance rows and ranks the images of each gallery camera separately.

    Args:
        q_pids, g_pids, q_camids, g_camids: see `compare_cameras`.
    """

    def __init__(self, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any) -> None:
        pids = np.asarray(g_pids)
        self.q_camids, g_camids = np.asarray(q_camids), np.asarray(g_camids)
        self.g_cameras = np.unique(g_camids)
        self.columns = [np.flatnonzero(g_camids == camera) for camera in self.g_cameras]
        self.ranks = []
        for chosen in self.columns:
            shape = len(self.q_camids), len(chosen)
            self.ranks.append(MatchRanks(Matches(shape, q_pids, pids[chosen], self.q_camids, g_camids[chosen])))

    def read(self, first: int, block: torch.Tensor) -> None:
        """Read the distances (n, Ng) of the queries from `first` on; the block is not changed."""
        for columns, ranks in zip(self.columns, self.ranks, strict=True):
            ranks.read(first, block[:, torch.from_numpy(columns).to(block.device)])

    def result(self) -> CameraPairs:
        """The metrics of every pair of cameras, after all queries have been read."""
        q_cameras = np.unique(self.q_camids)
        shape = len(q_cameras), len(self.g_cameras)
        mean_ap, rank1, counts = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64)
        for j, ranks in enumerate(self.ranks):
            measures = QueryMeasures.of(ranks)
            for i, camera in enumerate(q_cameras):
                counted = (self.q_camids == camera) & (measures.num_matches > 0)
                counts[i, j] = counted.sum()
                if counted.any():
                    mean_ap[i, j] = measures.average_precisions[counted].mean()
                    rank1[i, j] = (measures.first_match_ranks[counted] == 1).mean()
        return CameraPairs(q_cameras, self.g_cameras, mean_ap, rank1, counts)


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
    """Rank the queries of each camera among the gallery images of each camera, and return the metrics of every pair.

    A camera paired with itself has no matches, because images of the query's pid and camera are junk.

    Args:
        q_feats, g_feats, q_pids, g_pids, device: see `evaluate_features`.
        q_camids, g_camids: (Nq,) and (Ng,) cameras.
        progress: called as `progress(done, total)`, in queries.
    """
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    cameras = CameraRanks(q_pids, g_pids, q_camids, g_camids)
    counter = ProgressCounter(progress, query.count)
    for start, block in DistanceBlocks(PairwiseDistances(query, gallery)):
        cameras.read(start, block)
        counter.add(len(block))
    return cameras.result()

"""The gallery images nearest to each query, without the distance matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from svllreid.arguments import whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.labels import Labels
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.ranking.topk import smallest


def nearest(
    q_feats: Any,
    g_feats: Any,
    q_pids: Any = None,
    g_pids: Any = None,
    q_camids: Any = None,
    g_camids: Any = None,
    k: int = 10,
    *,
    metric: str = "euclidean",
    device: torch.device | str | None = None,
    progress: ProgressCallback | None = None,
) -> np.ndarray:
    """The k nearest gallery rows of each query, junk removed, equal distances in gallery order; in blocks.

    Args:
        q_feats, g_feats, q_camids, g_camids, metric, device, progress: see `evaluate_features`.
        q_pids, g_pids: identities, only needed with camids, to know junk; None removes nothing.
        k: entries a query, at least 1; more than the gallery has is filled up with −1.
    Returns: (Nq, k) int64 gallery rows, nearest first, −1 where the gallery has no more.
    Raises: EvaluationError: see `evaluate_features`.
    """
    k = whole_number(k, "k", EvaluationError)
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    if q_pids is None and g_pids is None:
        q_pids, g_pids = np.arange(query.count), np.arange(query.count, query.count + gallery.count)
    labels = Labels((query.count, gallery.count), q_pids, g_pids, q_camids, g_camids)
    source = PairwiseDistances(query, gallery, metric)
    step, tracker = source.block_rows(), ProgressCounter(progress, query.count)
    neighbours = np.full((query.count, k), -1, dtype=np.int64)
    for start in range(0, query.count, step):
        stop = min(start + step, query.count)
        block = source.rows(start, stop)
        rows, columns, junk = labels.pairs(start, stop)
        block[rows[junk], columns[junk]] = torch.inf
        values, indices = smallest(block, min(k, gallery.count))
        indices[torch.isinf(values)] = -1
        neighbours[start:stop, : indices.shape[1]] = indices.cpu().numpy()
        tracker.add(stop - start)
    return neighbours

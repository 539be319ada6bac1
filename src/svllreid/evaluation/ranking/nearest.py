"""The gallery images nearest to each query, found in blocks of distance rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from svllreid.arguments import whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matches import Matches
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
    """The k nearest gallery images of each query, without junk; equal distances keep the order of the gallery.

    Args:
        q_feats, g_feats, q_camids, g_camids, metric, device, progress: see `evaluate_features`.
        q_pids, g_pids: identities, which together with the camids tell what is junk; None: there is no junk.
        k: number of images for each query, at least 1.
    Returns: (Nq, k) int64 gallery rows, nearest first; −1 where the gallery has no more.
    Raises: EvaluationError: see `evaluate_features`.
    Example:
        >>> import numpy as np
        >>> nearest(np.array([[0.0]]), np.array([[3.0], [1.0]]), k=3).tolist()
        [[1, 0, -1]]
    """
    k = whole_number(k, "k", EvaluationError)
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    if q_pids is None and g_pids is None:
        q_pids, g_pids = np.arange(query.count), np.arange(query.count, query.count + gallery.count)
    matches = Matches((query.count, gallery.count), q_pids, g_pids, q_camids, g_camids)
    source = PairwiseDistances(query, gallery, metric)
    step, counter = source.block_rows(), ProgressCounter(progress, query.count)
    neighbours = np.full((query.count, k), -1, dtype=np.int64)
    for start in range(0, query.count, step):
        stop = min(start + step, query.count)
        block = source.rows(start, stop)
        rows, columns, junk = matches.pairs(start, stop)
        block[rows[junk], columns[junk]] = torch.inf
        values, indices = smallest(block, min(k, gallery.count))
        indices[torch.isinf(values)] = -1
        neighbours[start:stop, : indices.shape[1]] = indices.cpu().numpy()
        counter.add(stop - start)
    return neighbours

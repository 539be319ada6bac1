"""Ranking, verification and camera pairs of one query set and one gallery, from distances that are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from svllreid.errors import EvaluationError
from svllreid.evaluation.camera_pairs import CameraPairs, CameraRanks
from svllreid.evaluation.ranking.blocks import DistanceBlocks, ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.match_ranks import MatchRanks
from svllreid.evaluation.ranking.matches import Matches
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.ranking.measures import Ranking, ranking_of
from svllreid.evaluation.ranking.rerank import Reranker, RerankOptions
from svllreid.evaluation.verification import GenuinePairs, Verification

MAX_RANK = 50


@dataclass(frozen=True)
class Analysis:
    """The results of `analyse`.

    Args:
        ranking: the ranking by plain distance, or the re-ranked one.
        verification: the verification over all pairs by plain distance; None where there are not both genuine and
            impostor pairs.
        no_verification: the reason why there is no verification; empty where there is one.
        cameras: the camera pairs by plain distance; None where they were not asked for.
    """

    ranking: Ranking
    verification: Verification | None
    no_verification: str
    cameras: CameraPairs | None


def analyse(
    q_feats: Any,
    g_feats: Any,
    q_pids: Any,
    g_pids: Any,
    q_camids: Any = None,
    g_camids: Any = None,
    *,
    cameras: bool = False,
    rerank: RerankOptions | None = None,
    device: torch.device | str | None = None,
    progress: ProgressCallback | None = None,
) -> Analysis:
    """Rank and verify, and compare cameras where asked.

    The results equal those of `evaluate_features`, `verify_features` and `compare_cameras`. The distance matrix is
    computed once if it takes at most `blocks.KEPT_BYTES`, otherwise twice: impostor pairs are counted in a second
    reading, when the distances of all genuine pairs are known.

    Args:
        q_feats, g_feats, q_pids, g_pids, q_camids, g_camids, rerank, device: see `evaluate_features`.
        cameras: whether to compare pairs of cameras; this needs q_camids and g_camids.
        progress: called as `progress(done, total)`, in images.
    Raises: EvaluationError: see `evaluate_features`.
    """
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    matches = Matches((query.count, gallery.count), q_pids, g_pids, q_camids, g_camids)
    work = Reranker.work(query.count, gallery.count) if rerank is not None else 0
    counter = ProgressCounter(progress, work + 2 * query.count)
    reranker = None if rerank is None else Reranker(query, gallery, rerank, counter)
    source = PairwiseDistances(query, gallery) if reranker is None else reranker.plain
    blocks = DistanceBlocks(source, keep=True)
    ranks, genuine = MatchRanks(matches), GenuinePairs(source, matches)
    pairs = CameraRanks(q_pids, g_pids, q_camids, g_camids) if cameras else None
    for start, block in blocks:
        genuine.read(start, block)
        if pairs is not None:
            pairs.read(start, block)
        ranks.read(start, block if reranker is None else reranker.reranked(start, block.clone()))
        counter.add(len(block))
    try:
        impostors = genuine.impostors()
    except EvaluationError as error:
        verification, reason = None, str(error)
    else:
        for start, block in blocks:
            impostors.read(start, block)
            counter.add(len(block))
        verification, reason = impostors.result(), ""
    ranking = ranking_of(ranks, MAX_RANK)
    return Analysis(ranking, verification, reason, None if pairs is None else pairs.result())

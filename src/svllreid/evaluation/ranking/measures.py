"""CMC, mAP and mINP of ranked galleries, from distances or straight from features.

Distances are computed and ranked in blocks of query rows; the whole matrix never exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from svllreid.arguments import whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import DistanceBlocks, ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.labels import Labels
from svllreid.evaluation.ranking.match_ranks import MatchRanks
from svllreid.evaluation.ranking.matrix import Features, block_tensor
from svllreid.evaluation.ranking.rerank import Reranker, RerankOptions

MEASURES = ("mAP", "mINP", "rank1", "rank5", "rank10")
_GIVEN_BYTES = 32 << 20  # of given distances read at once


@dataclass(frozen=True)
class Ranking:
    """How well a gallery was ranked; all values are fractions, not percent.

    Args:
        cmc: (max_rank,) float64; cmc[r − 1] is the share of counted queries with a match among the first r.
        mean_ap: mean over the counted queries of the average precision.
        mean_inp: mean over the counted queries of matches / rank of the last match.
        num_valid_queries: queries counted, those with a match left.
        average_precisions: (Nq,) float64, NaN where the query is not counted.
        inverse_precisions: (Nq,) float64, matches / rank of the last match, NaN where not counted.
        first_match_ranks: (Nq,) int64, counted from 1 without junk; 0 where not counted.
        num_matches: (Nq,) int64, matches left after junk is removed.
    Source: mINP: Ye et al., TPAMI 2021, arXiv:2001.04193.
    Example:
        >>> import svllreid
        >>> ranking = svllreid.evaluate_ranking([[0.1, 0.3, 0.2]], q_pids=["ann"], g_pids=["bob", "bob", "ann"])
        >>> ranking.measures()
        {'mAP': 0.5, 'mINP': 0.5, 'rank1': 0.0, 'rank5': 1.0, 'rank10': 1.0}
    """

    cmc: np.ndarray
    mean_ap: float
    mean_inp: float
    num_valid_queries: int
    average_precisions: np.ndarray
    inverse_precisions: np.ndarray
    first_match_ranks: np.ndarray
    num_matches: np.ndarray

    def per_query(self) -> np.ndarray:
        """MEASURES of each query, (Nq, 5) float64, NaN where it is not counted."""
        first = np.where(self.num_matches > 0, self.first_match_ranks, np.nan)
        found = (np.where(np.isnan(first), np.nan, first <= rank) for rank in (1, 5, 10))
        return np.stack([self.average_precisions, self.inverse_precisions, *found], axis=1)

    def measures(self) -> dict[str, float]:
        """MEASURES over the counted queries."""
        return dict(zip(MEASURES, np.nanmean(self.per_query(), axis=0).tolist(), strict=True))


def evaluate_ranking(
    distmat: Any,
    q_pids: Any,
    g_pids: Any,
    q_camids: Any = None,
    g_camids: Any = None,
    max_rank: int = 50,
    *,
    progress: ProgressCallback | None = None,
) -> Ranking:
    """Rank a gallery for each query by given distances.

    Gallery entries of the query's pid and camid are junk and leave that query's ranking; without camids nothing does.
    Equal distances keep the order of the gallery. A query without a match left is not counted.

    Args:
        distmat: (Nq, Ng) real numbers in any unit, smaller is nearer; infinity is allowed, NaN is not. Integers count
            as float64.
        q_pids, g_pids: (Nq,) and (Ng,) identities, integers or strings.
        q_camids, g_camids: (Nq,) and (Ng,) cameras, both or neither.
        max_rank: length of the CMC; beyond the gallery's size the curve stays flat.
        progress: called as `progress(done, total)`, in queries.
    Returns: Ranking.
    Raises: EvaluationError: lengths differ, NaN, unusable types, or no query with a match.
    Example:
        The first query meets its match second, the other one first.

        >>> import svllreid
        >>> distmat = [[0.2, 0.1], [0.4, 0.3]]
        >>> ranking = svllreid.evaluate_ranking(distmat, q_pids=[1, 2], g_pids=[1, 2], max_rank=2)
        >>> ranking.mean_ap, ranking.cmc.tolist()
        (0.75, [0.5, 1.0])
    """
    max_rank = whole_number(max_rank, "max_rank", EvaluationError)
    distmat = distmat.detach() if isinstance(distmat, torch.Tensor) else np.asanyarray(distmat)
    shape, kind = tuple(distmat.shape), str(distmat.dtype)
    if len(shape) != 2 or 0 in shape:
        raise EvaluationError(f"distmat: shape {shape}; give (queries, gallery images), at least one of each")
    if "float" not in kind and "int" not in kind:
        raise EvaluationError(f"distmat: type {kind}; convert the distances to float32")
    labels = Labels(shape, q_pids, g_pids, q_camids, g_camids)
    dtype = torch.float32 if kind.endswith(("float16", "float32")) else torch.float64
    device = distmat.device if isinstance(distmat, torch.Tensor) else torch.device("cpu")
    step = max(1, _GIVEN_BYTES // (dtype.itemsize * shape[1]))
    tracker, ranks = ProgressCounter(progress, shape[0]), MatchRanks(labels)
    for start in range(0, shape[0], step):
        # Copied: ranking changes a block for a moment, and the matrix is the caller's.
        block = block_tensor(distmat[start : start + step], dtype, device)
        ranks.read(start, block.clone() if device.type == "cuda" else block)
        tracker.add(len(block))
    return ranking_of(ranks, max_rank)


def evaluate_features(
    q_feats: Any,
    g_feats: Any,
    q_pids: Any,
    g_pids: Any,
    q_camids: Any = None,
    g_camids: Any = None,
    *,
    max_rank: int = 50,
    metric: str = "euclidean",
    rerank: RerankOptions | None = None,
    device: torch.device | str | None = None,
    block_rows: int | None = None,
    progress: ProgressCallback | None = None,
) -> Ranking:
    """Rank a gallery for each query by the distance of features, in blocks, without the distance matrix.

    Ranked are squared Euclidean distances, which have the order of Euclidean ones without the rounding of a square
    root; `svllreid.distances` gives the distances themselves. Equal, ties included, to `evaluate_ranking` of the whole
    matrix (with `rerank`, of `svllreid.rerank`). Memory beyond the features: one block of rows (about 100 MB, at least
    128 rows); with `rerank` also some hundred numbers an image.

    Args:
        q_feats, g_feats: (Nq, D) and (Ng, D) float16, float32 or float64, tensor, array or memory map (read in blocks).
            float64 is compared in float64, all else in float32.
        q_pids, g_pids, q_camids, g_camids, max_rank: see `evaluate_ranking`.
        metric: `euclidean` or `cosine` (1 − cos).
        rerank: k-reciprocal re-ranking (Euclidean only); None ranks by plain distance.
        device: where to compute; None is where q_feats lies.
        block_rows: query rows of a block, rounded up to whole tiles; None chooses by memory. Never changes the result.
        progress: called as `progress(done, total)`, in images.
    Returns: Ranking.
    Raises: EvaluationError: see `evaluate_ranking`; also NaN or infinite features, different dimensions, no floats.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> query, gallery = np.array([[0.0], [5.0]]), np.array([[0.1], [4.0], [6.0]])
        >>> ranking = svllreid.evaluate_features(query, gallery, q_pids=["ann", "bob"], g_pids=["ann", "eve", "bob"])
        >>> ranking.mean_ap, ranking.first_match_ranks.tolist()
        (0.75, [1, 2])
    """
    max_rank = whole_number(max_rank, "max_rank", EvaluationError)
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    labels = Labels((query.count, gallery.count), q_pids, g_pids, q_camids, g_camids)
    if block_rows is not None:
        block_rows = whole_number(block_rows, "block_rows", EvaluationError)
    source: PairwiseDistances | Reranker
    if rerank is None:
        tracker = ProgressCounter(progress, query.count)
        source = PairwiseDistances(query, gallery, metric)
    else:
        if metric != "euclidean":
            raise EvaluationError(f"re-ranking is defined on Euclidean distances, not {metric!r}; leave metric out")
        tracker = ProgressCounter(progress, Reranker.work(query.count, gallery.count) + query.count)
        source = Reranker(query, gallery, rerank, tracker)
    step = source.block_rows() if block_rows is None else -(-block_rows // source.tile[0]) * source.tile[0]
    ranks = MatchRanks(labels)
    for start, block in DistanceBlocks(source, block_rows=step):
        ranks.read(start, block)
        tracker.add(len(block))
    return ranking_of(ranks, max_rank)


@dataclass(frozen=True)
class QueryMeasures:
    """The measures of each query, (Nq,) each, as in `Ranking`."""

    average_precisions: np.ndarray
    inverse_precisions: np.ndarray
    first_match_ranks: np.ndarray
    num_matches: np.ndarray

    @classmethod
    def of(cls, ranks: MatchRanks) -> QueryMeasures:
        """From the rank of every match."""
        queries, places = ranks.result()
        num_queries, width = ranks.labels.shape
        places = np.sort(queries * (width + 1) + places) - queries * (width + 1)
        matches = np.bincount(queries, minlength=num_queries)
        valid, ends = matches > 0, np.cumsum(matches)
        ordinals = np.arange(len(places)) - np.repeat(ends - matches, matches) + 1
        first, average, inverse = np.zeros(num_queries, np.int64), *np.full((2, num_queries), np.nan)
        first[valid] = places[(ends - matches)[valid]]
        average[valid] = np.bincount(queries, weights=ordinals / places, minlength=num_queries)[valid] / matches[valid]
        inverse[valid] = matches[valid] / places[ends[valid] - 1]
        return cls(average, inverse, first, matches)


def ranking_of(ranks: MatchRanks, max_rank: int) -> Ranking:
    """The metrics, from the rank of every match.

    Args:
        ranks: which has read all queries.
        max_rank: length of the CMC.
    Raises: EvaluationError: no query has a match.
    """
    ranks.labels.require_match()
    found = QueryMeasures.of(ranks)
    valid = found.num_matches > 0
    first = np.minimum(found.first_match_ranks[valid], max_rank + 1)
    hits = np.bincount(first, minlength=max_rank + 2)[1 : max_rank + 1]
    num_valid = int(valid.sum())
    return Ranking(
        cmc=np.cumsum(hits) / num_valid,
        mean_ap=float(found.average_precisions[valid].mean()),
        mean_inp=float(found.inverse_precisions[valid].mean()),
        num_valid_queries=num_valid,
        **vars(found),
    )

"""CMC, mAP and mINP of ranked galleries, from given distances or from features.

Distances of features are computed and ranked in blocks of query rows, so the whole matrix is never in memory.
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
from svllreid.evaluation.ranking.match_ranks import MatchRanks
from svllreid.evaluation.ranking.matches import Matches
from svllreid.evaluation.ranking.matrix import Features, block_tensor, matrix_of, type_name
from svllreid.evaluation.ranking.rerank import Reranker, RerankOptions

MEASURES = ("mAP", "mINP", "rank1", "rank5", "rank10")
_GIVEN_BYTES = 32 << 20  # size of a block of given distances


@dataclass(frozen=True)
class Ranking:
    """The measures of a ranking, over all queries and of each query; all are fractions, not percent.

    Args:
        cmc: (max_rank,) float64; cmc[r − 1] is the share of the counted queries with a match among the first r images.
        mean_ap: mean of the average precisions of the counted queries.
        mean_inp: mean of the inverse precisions of the counted queries.
        num_valid_queries: number of counted queries: those with a match that is not junk.
        average_precisions: (Nq,) float64; NaN where the query is not counted.
        inverse_precisions: (Nq,) float64, number of matches / rank of the last match; NaN where not counted.
        first_match_ranks: (Nq,) int64, rank of the first match, counted from 1 without junk; 0 where not counted.
        num_matches: (Nq,) int64, number of matches without junk.
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
        """The MEASURES of each query, (Nq, 5) float64; NaN where it is not counted."""
        first = np.where(self.num_matches > 0, self.first_match_ranks, np.nan)
        hits = (np.where(np.isnan(first), np.nan, first <= rank) for rank in (1, 5, 10))
        return np.stack([self.average_precisions, self.inverse_precisions, *hits], axis=1)

    def measures(self) -> dict[str, float]:
        """The mean over the counted queries of each of MEASURES, by name."""
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
    """Rank a gallery for each query by given distances, and return the measures.

    Gallery images with the query's pid and camid are junk and are left out of that query's ranking; without camids
    there is no junk. Equal distances keep the order of the gallery. A query without a match in its ranking is not
    counted.

    Args:
        distmat: (Nq, Ng) real numbers in any unit, smaller is nearer. Infinity is allowed, NaN is not. Integers are
            compared as float64.
        q_pids, g_pids: (Nq,) and (Ng,) identities, integers or strings.
        q_camids, g_camids: (Nq,) and (Ng,) cameras, both or neither. Every number is a camera, also -1: give neither
            where cameras are unknown.
        max_rank: length of the CMC; beyond the size of the gallery the curve stays flat.
        progress: called as `progress(done, total)`, in queries.
    Returns: the measures.
    Raises: EvaluationError: lengths differ, a distance is NaN, a type is unusable, or no query has a match.
    Example:
        The match of the first query is ranked second, that of the other query first.

        >>> import svllreid
        >>> distmat = [[0.2, 0.1], [0.4, 0.3]]
        >>> ranking = svllreid.evaluate_ranking(distmat, q_pids=[1, 2], g_pids=[1, 2], max_rank=2)
        >>> ranking.mean_ap, ranking.cmc.tolist()
        (0.75, [0.5, 1.0])
    """
    max_rank = whole_number(max_rank, "max_rank", EvaluationError)
    distmat = matrix_of(distmat, "distmat")
    shape, kind = tuple(distmat.shape), type_name(distmat)
    if len(shape) != 2 or 0 in shape:
        raise EvaluationError(f"distmat: shape {shape}; give (queries, gallery images), at least one of each")
    if "float" not in kind and "int" not in kind:
        raise EvaluationError(f"distmat: type {kind}; convert the distances to float32")
    matches = Matches(shape, q_pids, g_pids, q_camids, g_camids)
    dtype = torch.float32 if kind.endswith(("float16", "float32")) else torch.float64
    device = distmat.device if isinstance(distmat, torch.Tensor) else torch.device("cpu")
    step = max(1, _GIVEN_BYTES // (dtype.itemsize * shape[1]))
    counter, ranks = ProgressCounter(progress, shape[0]), MatchRanks(matches)
    for start in range(0, shape[0], step):
        # On a GPU, reading changes a block for a moment; the caller's matrix must stay as it is.
        block = block_tensor(distmat[start : start + step], dtype, device)
        ranks.read(start, block.clone() if device.type == "cuda" else block)
        counter.add(len(block))
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
    """Rank a gallery for each query by the distances of features, and return the measures.

    Distances are computed in blocks, so the whole distance matrix is never in memory. The results, also those of ties,
    equal those of `evaluate_ranking` for the whole matrix (with `rerank`, for that of `svllreid.rerank`). Squared
    Euclidean distances are ranked, which have the order of Euclidean ones without the rounding of a square root.

    Memory in addition to the features: one block of rows (about 100 MB, at least 128 rows); with `rerank` also some
    hundred numbers for each image.

    Args:
        q_feats, g_feats: (Nq, D) and (Ng, D) float16, float32 or float64; tensors, arrays or memory maps (read in
            blocks). float64 is compared in float64, all other types in float32.
        q_pids, g_pids, q_camids, g_camids, max_rank: see `evaluate_ranking`.
        metric: `euclidean` or `cosine` (1 − cos).
        rerank: k-reciprocal re-ranking (Euclidean only); None ranks by plain distance.
        device: the device that computes; None takes that of q_feats.
        block_rows: number of query rows of a block, rounded up to whole tiles; None chooses by memory. It does not
            change the result.
        progress: called as `progress(done, total)`, in images.
    Returns: the measures.
    Raises:
        EvaluationError: see `evaluate_ranking`; also features that are NaN, infinite, not of a float type, or of
            different dimensions.
        DeviceError: there is no such device.
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
    matches = Matches((query.count, gallery.count), q_pids, g_pids, q_camids, g_camids)
    if block_rows is not None:
        block_rows = whole_number(block_rows, "block_rows", EvaluationError)
    source: PairwiseDistances | Reranker
    if rerank is None:
        counter = ProgressCounter(progress, query.count)
        source = PairwiseDistances(query, gallery, metric)
    else:
        if metric != "euclidean":
            raise EvaluationError(f"re-ranking is defined on Euclidean distances, not {metric!r}; leave metric out")
        counter = ProgressCounter(progress, Reranker.work(query.count, gallery.count) + query.count)
        source = Reranker(query, gallery, rerank, counter)
    step = source.block_rows() if block_rows is None else -(-block_rows // source.tile[0]) * source.tile[0]
    ranks = MatchRanks(matches)
    for start, block in DistanceBlocks(source, block_rows=step):
        ranks.read(start, block)
        counter.add(len(block))
    return ranking_of(ranks, max_rank)


@dataclass(frozen=True)
class QueryMeasures:
    """The measures of each query, (Nq,) each; the fields are those of `Ranking`."""

    average_precisions: np.ndarray
    inverse_precisions: np.ndarray
    first_match_ranks: np.ndarray
    num_matches: np.ndarray

    @classmethod
    def of(cls, ranks: MatchRanks) -> QueryMeasures:
        """The measures from the ranks of all matches."""
        queries, places = ranks.result()
        num_queries, width = ranks.matches.shape
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
    """The measures of a ranking from the ranks of all matches.

    Args:
        ranks: has read the distances of all queries.
        max_rank: length of the CMC.
    Raises: EvaluationError: no query has a match.
    """
    ranks.matches.require_match()
    measures = QueryMeasures.of(ranks)
    valid = measures.num_matches > 0
    first = np.minimum(measures.first_match_ranks[valid], max_rank + 1)
    hits = np.bincount(first, minlength=max_rank + 2)[1 : max_rank + 1]
    num_valid = int(valid.sum())
    return Ranking(
        cmc=np.cumsum(hits) / num_valid,
        mean_ap=float(measures.average_precisions[valid].mean()),
        mean_inp=float(measures.inverse_precisions[valid].mean()),
        num_valid_queries=num_valid,
        **vars(measures),
    )

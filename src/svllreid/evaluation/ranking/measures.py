"""CMC, mAP and mINP of ranked galleries, from distances or straight from features.

Only the ranks of the matches are needed, a few of many thousand: each row of distances is sorted as plain numbers and
the matches are looked up in it, which is far cheaper than ordering the gallery. Blocks of query rows follow each other;
the whole matrix never exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from svllreid.arguments import whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.distance import (
    PairwiseDistances,
    ProgressCallback,
    ProgressCounter,
    in_threads,
)
from svllreid.evaluation.ranking.labels import Labels
from svllreid.evaluation.ranking.matrix import Features, block_tensor
from svllreid.evaluation.ranking.rerank import Reranker, RerankOptions

MEASURES = ("mAP", "mINP", "rank1", "rank5", "rank10")
_SCRATCH_BYTES = 32 << 20


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
    step = _scratch_rows(shape[1])
    tracker = ProgressCounter(progress, shape[0])
    return _evaluate(lambda a, b: block_tensor(distmat[a:b], dtype, device), step, labels, max_rank, tracker)


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
    return _evaluate(source.rows, step, labels, max_rank, tracker)


def _scratch_rows(width: int) -> int:
    return max(2 * torch.get_num_threads(), _SCRATCH_BYTES // (4 * width))


def _evaluate(
    rows_of: Callable[[int, int], torch.Tensor], step: int, labels: Labels, max_rank: int, tracker: ProgressCounter
) -> Ranking:
    """Rank block after block of distance rows and put the metrics together."""
    num_queries, width = labels.shape
    queries, ranks, buffer = [], [], np.empty((0, width), np.float32)
    for start in range(0, num_queries, step):
        block = rows_of(start, min(start + step, num_queries)).cpu().numpy()
        if len(buffer) == 0:
            buffer = np.empty((min(_scratch_rows(width), step), width), block.dtype)
        for top in range(0, len(block), len(buffer)):
            part = block[top : top + len(buffer)]
            rows, columns, junk = labels.pairs(start + top, start + top + len(part))
            ranks.append(_match_ranks(part, rows, columns, junk, buffer[: len(part)], start + top))
            queries.append(rows[~junk] + start + top)
        tracker.add(len(block))
    return _metrics(np.concatenate(queries), np.concatenate(ranks), labels, max_rank)


def _match_ranks(
    block: np.ndarray, rows: np.ndarray, columns: np.ndarray, junk: np.ndarray, buffer: np.ndarray, first: int
) -> np.ndarray:
    """Ranks from 1 of the matches of a block of distance rows.

    Args:
        block: (n, Ng) distances, left as they are.
        rows, columns, junk: (P,) the pairs of equal identity, by row.
        buffer: (n, Ng) to sort in.
        first: query of the first row, for messages.
    Returns: (matches,) int64, in the order of the pairs that are not junk.
    """
    line, column = rows[~junk], columns[~junk]
    wanted = block[line, column]
    before = _sort_and_look_up(block, rows[junk], columns[junk], line, wanted, buffer)
    broken = np.flatnonzero(np.isnan(buffer[:, -1]))  # NaN comes last
    if len(broken):
        raise EvaluationError(
            f"distmat: row {first + broken[0]} holds NaN; look at the features or the model behind it"
        )
    following = np.minimum(before + 1, block.shape[1] - 1)
    tied = (buffer[line, following] == wanted) & (before < following)
    for row in np.unique(line[tied]):
        chosen = tied & (line == row)
        values = block[row].copy()
        values[columns[junk & (rows == row)]] = np.nan
        before[chosen] += _tied_before(values, column[chosen])
    return before + 1


def _sort_and_look_up(
    block: np.ndarray,
    junk_rows: np.ndarray,
    junk_columns: np.ndarray,
    line: np.ndarray,
    wanted: np.ndarray,
    buffer: np.ndarray,
) -> np.ndarray:
    """Sort the rows (n, Ng) into `buffer`, junk at the end; how many entries of row line[i] are below wanted[i].

    Each thread copies some rows, makes the junk infinite, sorts with NumPy's vector sort and looks up.
    """
    before = np.zeros(len(line), np.int64)
    share = -(-len(block) // (4 * torch.get_num_threads()))
    edges, junk_edges = (np.searchsorted(part, np.arange(len(block) + 1)) for part in (line, junk_rows))

    def work(top: int) -> None:
        bottom = min(top + share, len(block))
        part, inside = buffer[top:bottom], slice(junk_edges[top], junk_edges[bottom])
        np.copyto(part, block[top:bottom])
        part[junk_rows[inside] - top, junk_columns[inside]] = np.inf
        part.sort(axis=1)
        for row in range(top, bottom):
            matches = slice(edges[row], edges[row + 1])
            before[matches] = buffer[row].searchsorted(wanted[matches])

    in_threads(work, range(0, len(block), share))
    return before


def _tied_before(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """How many entries of `values` (Ng,) before each of `columns` equal the entry there; NaN equals nothing."""
    tied = np.flatnonzero(np.isin(values, values[columns]))
    tied = tied[np.argsort(values[tied], kind="stable")]
    place = np.empty(len(values), dtype=np.int64)
    place[tied] = np.arange(len(tied))
    return place[columns] - np.searchsorted(values[tied], values[columns])


def _metrics(queries: np.ndarray, ranks: np.ndarray, labels: Labels, max_rank: int) -> Ranking:
    """Metrics from the rank of every match.

    Args:
        queries: (M,) the query of each match, ascending.
        ranks: (M,) its rank from 1.
    Raises: EvaluationError: no match at all.
    """
    num_queries, width = labels.shape
    labels.require_match()
    ranks = np.sort(queries * (width + 1) + ranks) - queries * (width + 1)
    matches = np.bincount(queries, minlength=num_queries)
    valid, ends = matches > 0, np.cumsum(matches)
    ordinals = np.arange(len(ranks)) - np.repeat(ends - matches, matches) + 1
    first, average, inverse = np.zeros(num_queries, np.int64), *np.full((2, num_queries), np.nan)
    first[valid] = ranks[(ends - matches)[valid]]
    average[valid] = np.bincount(queries, weights=ordinals / ranks, minlength=num_queries)[valid] / matches[valid]
    inverse[valid] = matches[valid] / ranks[ends[valid] - 1]
    hits = np.bincount(np.minimum(first[valid], max_rank + 1), minlength=max_rank + 2)[1 : max_rank + 1]
    num_valid = int(valid.sum())
    return Ranking(
        cmc=np.cumsum(hits) / num_valid,
        mean_ap=float(average[valid].mean()),
        mean_inp=float(inverse[valid].mean()),
        num_valid_queries=num_valid,
        average_precisions=average,
        inverse_precisions=inverse,
        first_match_ranks=first,
        num_matches=matches,
    )

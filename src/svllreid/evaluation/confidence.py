"""Confidence intervals: how much the means over the queries could differ if other identities were searched for."""

from __future__ import annotations

from typing import Any

import numpy as np

from svllreid.arguments import whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.measures import MEASURES, Ranking

LEVEL = 0.95
_DRAWS_AT_ONCE = 1 << 20


def bootstrap(ranking: Ranking, q_pids: Any, draws: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % intervals of mAP, mINP, rank-1, rank-5 and rank-10 by the percentile bootstrap over the counted queries.

    Each draw takes as many identities as there are, with replacement, each with all of its queries. Queries of one
    identity are alike, so drawing them one by one would make the intervals too narrow. Gallery and weights are the same
    in all draws, so the intervals do not cover what another training seed would change.

    Args:
        ranking: the result of `evaluate_features` or `evaluate_ranking`.
        q_pids: (Nq,) identities of the queries.
        draws: number of draws, at least 2.
        seed: seed of the draws.
    Returns: lower and upper end (fractions) for each of MEASURES.
    Raises: EvaluationError: fewer than two draws, or a number of q_pids that is not the number of queries.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13; drawn in clusters: Field and
        Welsh 2007, "Bootstrapping clustered data".
    Example:
        >>> import svllreid
        >>> distmat = [[0.1, 0.2], [0.1, 0.2]]
        >>> ranking = svllreid.evaluate_ranking(distmat, q_pids=["ann", "bob"], g_pids=["ann", "bob"])
        >>> bootstrap(ranking, ["ann", "bob"])["rank1"]  # one query of two finds its match first
        (0.0, 1.0)
    """
    pids = np.asarray(q_pids)
    draws = whole_number(draws, "bootstrap: draws", EvaluationError, least=2)
    seed = whole_number(seed, "bootstrap: seed", EvaluationError, least=0)
    if len(pids) != len(ranking.num_matches):
        raise EvaluationError(f"bootstrap: {len(pids)} q_pids for {len(ranking.num_matches)} queries; give one a query")
    valid = ranking.num_matches > 0
    codes = np.unique(pids[valid], return_inverse=True)[1]
    sums = np.stack([np.bincount(codes, column) for column in ranking.per_query()[valid].T], axis=1)  # (ids, measures)
    counts, generator = np.bincount(codes), np.random.default_rng(seed)
    share = max(1, _DRAWS_AT_ONCE // len(counts))
    means = []
    for start in range(0, draws, share):
        rows = generator.integers(0, len(counts), (min(share, draws - start), len(counts)))
        means.append(sums[rows].sum(axis=1) / counts[rows].sum(axis=1)[:, None])
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(MEASURES, low, high, strict=True)}

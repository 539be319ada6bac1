"""How far the means over the queries could lie elsewhere, had other identities been searched for."""

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

    Identities are drawn with all their queries: queries of one are alike, and drawing each by itself would make the
    intervals too narrow. Gallery and weights stay as they are: another training seed is not in it.

    Args:
        ranking: what `evaluate_features` found.
        q_pids: (Nq,) identities of the queries.
        draws: how often as many identities are drawn with replacement.
        seed: the same seed draws the same.
    Returns: low and high end (fractions) of each of MEASURES.
    Raises: EvaluationError: fewer than two draws, or labels of another number of queries.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13; drawn in clusters: Field and
        Welsh 2007, "Bootstrapping clustered data".
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

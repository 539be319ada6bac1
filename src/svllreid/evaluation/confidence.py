"""How far the means over the queries could lie elsewhere, had other queries been drawn."""

from __future__ import annotations

import numpy as np

from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking import Ranking

LEVEL = 0.95
_DRAWS_AT_ONCE = 1 << 20


def bootstrap(ranking: Ranking, draws: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % intervals of mAP, mINP, rank-1, rank-5 and rank-10 by the percentile bootstrap over the counted queries.

    The gallery and the trained weights stay as they are: how much another training seed would change is not in it.

    Args:
        ranking: what `evaluate_features` found.
        draws: how often as many queries are drawn with replacement.
        seed: the same seed draws the same queries.
    Returns: low and high end (fractions) of each of mAP, mINP, rank1, rank5, rank10.
    Raises: EvaluationError: fewer than two draws.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    if draws < 2:
        raise EvaluationError(f"bootstrap: {draws} draws; use at least 2, better 1000")
    valid = ranking.num_matches > 0
    first = ranking.first_match_ranks[valid]
    columns = [ranking.average_precisions[valid], ranking.inverse_precisions[valid], *(first <= k for k in (1, 5, 10))]
    values = np.stack(columns, axis=1).astype(np.float64)  # (queries, 5)
    generator, count = np.random.default_rng(seed), len(values)
    share = max(1, _DRAWS_AT_ONCE // count)
    means = [
        values[generator.integers(0, count, (min(share, draws - start), count))].mean(axis=1)
        for start in range(0, draws, share)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    names = ("mAP", "mINP", "rank1", "rank5", "rank10")
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}

"""Several images of one identity as one feature: their mean."""

from __future__ import annotations

from typing import Any

import numpy as np


def mean_feature(features: Any, *, normalized: bool) -> np.ndarray:
    """The mean (1, D) float32 of features (n, D), brought to length 1 if they have it; a mean of zero stays zero."""
    mean = np.asarray(features, np.float64).mean(axis=0, keepdims=True)
    length = float(np.linalg.norm(mean))
    return (mean / length if normalized and length else mean).astype(np.float32)


def deal(pids: np.ndarray, camids: np.ndarray, size: int, seed: int) -> list[np.ndarray]:
    """Groups of `size` rows with one identity and one camera, dealt at random; what is left of each stays out.

    Args:
        pids, camids: (N,) of each row.
        size: rows of a group.
        seed: of the dealing.
    Returns: the rows of each group.

    >>> [rows.tolist() for rows in deal(np.array([7, 7, 7, 8]), np.array([0, 0, 0, 0]), size=2, seed=0)]
    [[2, 0]]
    """
    generator, groups = np.random.default_rng(seed), []
    order = np.lexsort((camids, pids))
    starts = np.flatnonzero((np.diff(pids[order]) != 0) | (np.diff(camids[order]) != 0)) + 1
    for rows in np.split(order, starts):
        rows = generator.permutation(rows)
        groups += list(rows[: len(rows) // size * size].reshape(-1, size))
    return groups

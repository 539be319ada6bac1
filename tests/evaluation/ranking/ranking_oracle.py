"""Ranking and re-ranking written from their definitions, one image at a time, in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Expected(NamedTuple):
    cmc: np.ndarray
    mean_ap: float
    mean_inp: float
    num_valid_queries: int
    average_precisions: list[float]


def ranked(distances: Any, junk: Any) -> list[int]:
    """Gallery columns by distance, the earlier one first among equals, without junk."""
    columns = [column for column in range(len(distances)) if not junk[column]]
    return sorted(columns, key=lambda column: (distances[column], column))


def junk_of(query: int, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any) -> list[bool]:
    if q_camids is None:
        return [False] * len(g_pids)
    return [g_pids[i] == q_pids[query] and g_camids[i] == q_camids[query] for i in range(len(g_pids))]


def ranking(
    distmat: Any, q_pids: Any, g_pids: Any, q_camids: Any = None, g_camids: Any = None, max_rank: int = 50
) -> Expected:
    curves, precisions, penalties, all_precisions = [], [], [], []
    for query, distances in enumerate(distmat):
        order = ranked(distances, junk_of(query, q_pids, g_pids, q_camids, g_camids))
        places = [place for place, column in enumerate(order, start=1) if g_pids[column] == q_pids[query]]
        all_precisions.append(float("nan"))
        if not places:
            continue
        curves.append([float(places[0] <= rank) for rank in range(1, max_rank + 1)])
        precisions.append(np.mean([count / place for count, place in enumerate(places, start=1)]))
        penalties.append(len(places) / places[-1])
        all_precisions[-1] = precisions[-1]
    means = float(np.mean(precisions)), float(np.mean(penalties))
    return Expected(np.mean(curves, axis=0), *means, len(curves), all_precisions)


def rerank(q_feats: Any, g_feats: Any, k1: int, k2: int, lambda_value: float) -> np.ndarray:
    features = np.concatenate([q_feats, g_feats]).astype(np.float64)
    count = len(features)
    distances = np.array([[np.sum((a - b) ** 2) for b in features] for a in features])
    largest = distances.max(axis=1, keepdims=True)
    distances = distances / np.where(largest > 0, largest, 1)
    order = [sorted(range(count), key=lambda column, row=row: (distances[row][column], column)) for row in range(count)]

    def reciprocal(image: int, k: int) -> set[int]:
        return {other for other in order[image][: k + 1] if image in order[other][: k + 1]}

    vectors = np.zeros((count, count))
    for image in range(count):
        core = reciprocal(image, k1)
        members = set(core)
        for other in core:
            more = reciprocal(other, round(k1 / 2))
            if 3 * len(more & core) > 2 * len(more):
                members |= more
        for other in members:
            vectors[image, other] = np.exp(-distances[image, other])
        if members:
            vectors[image] /= vectors[image].sum()
    if k2 > 1:
        vectors = np.array([np.mean([vectors[other] for other in order[image][:k2]], axis=0) for image in range(count)])
    result = np.empty((len(q_feats), len(g_feats)))
    for query in range(len(q_feats)):
        for image in range(len(g_feats)):
            common = np.minimum(vectors[query], vectors[len(q_feats) + image]).sum()
            jaccard = 1 - common / (2 - common)
            result[query, image] = (1 - lambda_value) * jaccard
            result[query, image] += lambda_value * distances[query, len(q_feats) + image]
    return result

"""What is known before features are compared: which images are one tracklet, and which cannot be one identity."""

from __future__ import annotations

from typing import Any

import numpy as np

from svllreid.clustering.density import ALONE
from svllreid.clustering.jaccard import JaccardDistances


def tracklet_rows(camids: np.ndarray, tracklets: np.ndarray) -> np.ndarray:
    """The tracklet of each image, numbered from 0 in the order of their first images.

    A tracklet is the images with equal camid and equal name, since trackers count anew for each camera. An image
    without a name is a tracklet of its own.

    Args:
        camids: (N,) int64.
        tracklets: (N,) texts, empty where unknown.
    Returns: (N,) int64.
    Example:
        >>> import numpy as np
        >>> tracklet_rows(np.array([0, 0, 1, 0, 0]), np.array(["7", "", "7", "", "7"])).tolist()
        [0, 1, 2, 3, 0]
    """
    numbers: dict[Any, int] = {}
    keys = [
        (camid, name) if name else row
        for row, (camid, name) in enumerate(zip(camids.tolist(), tracklets.tolist(), strict=True))
    ]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def mean_features(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The mean feature of each tracklet, of length 1 where all features have length 1.

    Args:
        features: (N, D) float.
        rows: (N,) from `tracklet_rows`.
    Returns: (M, D) float32.
    """
    count = int(rows.max()) + 1
    if count == len(rows):
        return np.asarray(features, np.float32)
    sums = np.zeros((count, features.shape[1]), np.float64)
    np.add.at(sums, rows, features)
    sums /= np.bincount(rows)[:, None]
    if np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-3):
        sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return sums.astype(np.float32)


def simultaneous(camids: np.ndarray, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The pairs of different tracklets that have images of one camera at one time, so that they are not one identity.

    Args:
        camids: (N,) int64; -1 where unknown.
        times: (N,) float64 seconds, NaN where unknown; images are at one time if the numbers are equal.
        rows: (N,) from `tracklet_rows`.
    Returns: (P, 2) int64, each pair once, the smaller tracklet first.
    Example:
        >>> import numpy as np
        >>> simultaneous(np.array([0, 0, 1, 0]), np.array([5.0, 5.0, 5.0, 6.0]), np.arange(4)).tolist()
        [[0, 1]]
    """
    known = np.flatnonzero((camids >= 0) & ~np.isnan(times))
    order = known[np.lexsort((rows[known], times[known], camids[known]))]
    moments = (np.diff(camids[order]) != 0) | (np.diff(times[order]) != 0)
    pairs = [np.empty((0, 2), np.int64)]
    for images in np.split(order, np.flatnonzero(moments) + 1):
        if len(images) > 1:
            there = np.unique(rows[images])
            first, second = np.triu_indices(len(there), 1)
            pairs.append(np.stack([there[first], there[second]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def split_simultaneous(
    labels: np.ndarray, distances: JaccardDistances, pairs: np.ndarray
) -> tuple[np.ndarray, list[list[int]]]:
    """Split each cluster that holds simultaneous tracklets until none does, keeping near ones together.

    A cluster is taken apart into its tracklets, which are joined again pair by pair, the nearest first, wherever the
    join would not bring simultaneous ones together. So the result depends on nothing but the distances; equal ones keep
    the order of the tracklets.

    Args:
        labels: (M,) clusters of the tracklets, ALONE (-1) for none.
        distances: of the tracklets' mean features.
        pairs: (P, 2) from `simultaneous`.
    Returns: the new labels, and for each cluster that was split the labels of its parts, of which the first is the old
        one.
    """
    labels = labels.copy()
    pairs = pairs[(labels[pairs[:, 0]] == labels[pairs[:, 1]]) & (labels[pairs[:, 0]] != ALONE)]
    fresh, split = int(labels.max(initial=ALONE)) + 1, list[list[int]]()
    apart: dict[int, set[int]] = {}
    for first, second in pairs.tolist():
        apart.setdefault(first, set()).add(second)
        apart.setdefault(second, set()).add(first)
    for label in np.unique(labels[pairs[:, 0]]).tolist():
        _, *others = _joined(np.flatnonzero(labels == label), distances, apart)
        split.append([label, *range(fresh, fresh + len(others))])
        for members in others:
            labels[members] = fresh
            fresh += 1
    return labels, split


def _joined(members: np.ndarray, distances: JaccardDistances, apart: dict[int, set[int]]) -> list[list[int]]:
    """The parts of a cluster in which no two are in each other's `apart`, the largest first."""
    near = distances.among(members)
    order = np.argsort(near.distances, kind="stable")
    part = {number: {number} for number in members.tolist()}
    barred = {number: set(apart.get(number, ())) for number in part}
    names = members.tolist()
    for row, column in zip(near.rows[order].tolist(), near.columns[order].tolist(), strict=True):
        one, two = part[names[row]], part[names[column]]
        if one is two or barred[min(one)] & two:
            continue
        together = one | two
        barred[min(together)] = barred[min(one)] | barred[min(two)]
        part.update(dict.fromkeys(together, together))
    parts = {min(group): sorted(group) for group in part.values()}
    return sorted(parts.values(), key=lambda group: (-len(group), group[0]))

"""What is known before features are compared: which images are one tracklet, and which cannot be one identity."""

from __future__ import annotations

from typing import Any

import numpy as np

from svllreid.clustering.density import ALONE
from svllreid.clustering.jaccard import JaccardDistances

MOST_TRIED = 100
"""When a cluster is split, each tracklet may be joined with so many of the nearest, itself included."""
_PAIRS = 1 << 20  # so many pairs are Python numbers at once


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


def shared_moments(camids: np.ndarray, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The moments at which one camera saw several tracklets, which therefore are not one identity.

    Args:
        camids: (N,) int64; -1 where unknown.
        times: (N,) float64 seconds, NaN where unknown; images are at one time if the numbers are equal.
        rows: (N,) from `tracklet_rows`.
    Returns: (P, 2) int64, a moment and a tracklet seen at it, each once, in ascending order. A moment is the number of
        a camera and a time.
    Example:
        >>> import numpy as np
        >>> shared_moments(np.array([0, 0, 1, 0]), np.array([5.0, 5.0, 5.0, 6.0]), np.arange(4)).tolist()
        [[0, 0], [0, 1]]
    """
    known = np.flatnonzero((camids >= 0) & ~np.isnan(times))
    order = known[np.lexsort((times[known], camids[known]))]
    cameras, clocks = camids[order], times[order]
    moments = np.zeros(len(order), np.int64)
    moments[1:] = np.cumsum((cameras[1:] != cameras[:-1]) | (clocks[1:] != clocks[:-1]))
    seen = np.unique(np.stack([moments, rows[order]], axis=1), axis=0)
    return seen[np.bincount(seen[:, 0])[seen[:, 0]] > 1]


def count_apart(seen: np.ndarray) -> int:
    """The number of different pairs of tracklets that share a moment.

    Args:
        seen: (P, 2) from `shared_moments`.
    """
    starts = np.flatnonzero(np.diff(seen[:, 0], prepend=-1))
    groups = dict(zip(seen[starts, 0].tolist(), np.split(seen[:, 1], starts[1:]), strict=False))
    others = 0
    for moments in _by_tracklet(seen).values():
        met = [groups[moment] for moment in moments]
        others += len(met[0] if len(met) == 1 else np.unique(np.concatenate(met))) - 1  # itself left out
    return others // 2


def _by_tracklet(seen: np.ndarray) -> dict[int, set[int]]:
    """The moments of each tracklet."""
    result: dict[int, set[int]] = {}
    for moment, tracklet in seen.tolist():
        result.setdefault(tracklet, set()).add(moment)
    return result


def split_simultaneous(
    labels: np.ndarray, distances: JaccardDistances, seen: np.ndarray
) -> tuple[np.ndarray, list[list[int]]]:
    """Split each cluster that holds simultaneous tracklets until none does, keeping near ones together.

    A cluster is taken apart into its tracklets, which are joined again pair by pair, the nearest first, wherever the
    join would not bring simultaneous ones together. Each tracklet is tried with the MOST_TRIED of its cluster that are
    nearest to it. So the result depends on nothing but the distances; equal ones keep the order of the tracklets.

    Args:
        labels: (M,) clusters of the tracklets, ALONE (-1) for none.
        distances: of the tracklets' mean features.
        seen: (P, 2) from `shared_moments`.
    Returns: the new labels, and for each cluster that was split the labels of its parts, of which the first is the old
        one.
    """
    labels = labels.copy()
    held = np.stack([labels[seen[:, 1]], seen[:, 0]], axis=1)  # which cluster holds a tracklet of which moment
    held, times = np.unique(held[held[:, 0] != ALONE], axis=0, return_counts=True)
    fresh, split, moments = int(labels.max(initial=ALONE)) + 1, list[list[int]](), _by_tracklet(seen)
    for label in np.unique(held[times > 1, 0]).tolist():
        _, *others = _joined(np.flatnonzero(labels == label), distances, moments)
        split.append([label, *range(fresh, fresh + len(others))])
        for members in others:
            labels[members] = fresh
            fresh += 1
    return labels, split


def _joined(members: np.ndarray, distances: JaccardDistances, moments: dict[int, set[int]]) -> list[np.ndarray]:
    """The parts of a cluster, in none of which two tracklets share a moment, the largest first."""
    near = distances.among(members, MOST_TRIED)
    order = np.argsort(near.distances, kind="stable")
    part = list(range(len(members)))  # the number of each member's part, which is one of its members
    inside = [[place] for place in part]
    at = [set(moments.get(member, ())) for member in members.tolist()]
    for places in np.array_split(order, 1 + len(order) // _PAIRS):
        for row, column in zip(near.rows[places].tolist(), near.columns[places].tolist(), strict=True):
            one, two = part[row], part[column]
            if one == two or not at[one].isdisjoint(at[two]):
                continue
            if len(inside[one]) < len(inside[two]):
                one, two = two, one
            for place in inside[two]:  # of the smaller part, so that none is moved often
                part[place] = one
            inside[one] += inside[two]
            at[one] |= at[two]
    parts = [members[sorted(inside[number])] for number in sorted(set(part))]
    return sorted(parts, key=lambda group: (-len(group), int(group[0])))

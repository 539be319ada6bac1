"""How certain clusters are: how near each image is to its own cluster and to the nearest other one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from svllreid.clustering.density import ALONE
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matrix import Features


@dataclass(frozen=True)
class Fit:
    """How the images fit their clusters.

    Args:
        own: (N,) float32, the Euclidean distance of each image to the mean of its cluster; NaN in none.
        other: (N,) float32, that to the nearest mean of another cluster; NaN where there is none.
        silhouette: (N,) float64 from -1 to 1: (other − own) / the larger of the two, the simplified silhouette. 1 where
            the image is at the mean of its cluster, below 0 where another cluster is nearer; NaN in no cluster.
        nearest: (C,) int64, for each cluster the one whose mean is nearest; -1 where there is no other.
        gap: (C,) float32, the distance to it.
    """

    own: np.ndarray
    other: np.ndarray
    silhouette: np.ndarray
    nearest: np.ndarray
    gap: np.ndarray

    def doubt(self, labels: np.ndarray) -> np.ndarray:
        """The doubt about each cluster, (C,) from 0 to 2: 1 minus the mean silhouette of its images."""
        inside = labels != ALONE
        sums = np.bincount(labels[inside], self.silhouette[inside], minlength=len(self.nearest))
        return 1 - sums / np.bincount(labels[inside], minlength=len(self.nearest))


def fit_of(features: np.ndarray, labels: np.ndarray) -> Fit:
    """How the images fit their clusters, from the distances to the clusters' means.

    Args:
        features: (N, D) float.
        labels: (N,) int64 clusters 0 to C − 1, ALONE (-1) for images in none.
    Source: simplified silhouette: Hruschka et al., IEEE ICDM 2004.
    """
    count, inside = int(labels.max(initial=ALONE)) + 1, np.flatnonzero(labels != ALONE)
    own, other = np.full((2, len(labels)), np.nan, np.float32)
    silhouette = np.full(len(labels), np.nan)
    nearest, gap = np.full(count, -1), np.full(count, np.nan, np.float32)
    if count:
        means = np.zeros((count, features.shape[1]))
        np.add.at(means, labels[inside], features[inside])
        means = (means / np.bincount(labels[inside])[:, None]).astype(np.float32)
        own[inside], other[inside], _ = _own_and_other(features[inside], means, labels[inside])
        silhouette[inside] = 1.0
        if count > 1:
            scale = np.maximum(np.maximum(own[inside], other[inside]), 1e-12)
            silhouette[inside] = (other[inside] - own[inside]) / scale
            _, gap, nearest = _own_and_other(means, means, np.arange(count))
    return Fit(own, other, silhouette, nearest, gap)


def _own_and_other(
    features: np.ndarray, means: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distance of each image to its own mean and to the nearest other one (NaN without any), and which that is."""
    source = PairwiseDistances(Features(features, "features"), Features(means, "means"))
    found = []
    for start in range(0, len(features), source.block_rows()):
        block = source.rows(start, min(start + source.block_rows(), len(features)))
        rows, columns = torch.arange(len(block)), torch.from_numpy(own[start : start + len(block)])
        mine = block[rows, columns].clone()
        block[rows, columns] = torch.inf
        least, which = block.min(dim=1)
        least[torch.isinf(least)] = torch.nan
        found.append((source.reported(mine).numpy(), source.reported(least).numpy(), which.numpy().copy()))
    distances, others, nearest = (np.concatenate(part) for part in zip(*found, strict=True))
    return distances, others, nearest

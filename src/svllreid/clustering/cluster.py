"""Identities from features without labels: images to clusters, with what cameras, times and tracklets say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from svllreid.arguments import share, whole_number
from svllreid.clustering.cameras import centred
from svllreid.clustering.density import ALONE, dbscan, hdbscan
from svllreid.clustering.jaccard import K1, K2, JaccardDistances
from svllreid.clustering.tracklets import (
    count_apart,
    mean_features,
    shared_moments,
    split_simultaneous,
    tracklet_rows,
)
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback

METHODS = ("dbscan", "hdbscan")


@dataclass(frozen=True)
class ClusterOptions:
    """How images are clustered; the defaults are those of unsupervised re-identification.

    Args:
        method: one of METHODS. DBSCAN joins what is near by one threshold; HDBSCAN needs none.
        eps: of DBSCAN, the Jaccard distance up to which images are near, above 0 and up to 1. At 1 those are near that
            share a neighbour.
        min_samples: the fewest images of a cluster, and of the surroundings of an image that holds a cluster together;
            at least 2.
        k1, k2: see `JaccardDistances`.
        centre_cameras: subtract each camera's mean feature, see `centred`.
        apart: whether images of one camera at one time are never put into one cluster.
    Raises: EvaluationError: a value is out of range.
    """

    method: str = "dbscan"
    eps: float = 0.6
    min_samples: int = 4
    k1: int = K1
    k2: int = K2
    centre_cameras: bool = False
    apart: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise EvaluationError(f"clustering: method {self.method!r} is not known; choose {' or '.join(METHODS)}")
        if share(self.eps, "clustering: eps", EvaluationError) == 0:
            raise EvaluationError(
                "clustering: eps is 0, up to which no image is near; use a number above 0 and up to 1"
            )
        whole_number(self.min_samples, "clustering: min_samples", EvaluationError, least=2)
        for name in ("k1", "k2"):
            whole_number(getattr(self, name), f"clustering: {name}", EvaluationError)


@dataclass(frozen=True)
class Clusters:
    """The clusters of N images.

    Args:
        labels: (N,) int64: clusters from 0, the one with most images first; ALONE (-1) for images in none.
        features: (N, D) float32, the features that were compared: with the cameras' means subtracted, if asked for.
        tracklets: number of tracklets of more than one image, each clustered as one.
        pairs_apart: number of pairs of tracklets or single images that one camera saw at one time.
        split: number of clusters that were split because they held such a pair.
        dissolved: number of parts of split clusters that were too small and are in no cluster now.
    """

    labels: np.ndarray
    features: np.ndarray
    tracklets: int
    pairs_apart: int
    split: int
    dissolved: int

    @property
    def count(self) -> int:
        """The number of clusters."""
        return int(self.labels.max(initial=ALONE)) + 1


def cluster(
    features: Any,
    camids: np.ndarray | None = None,
    times: np.ndarray | None = None,
    tracklets: np.ndarray | None = None,
    options: ClusterOptions = ClusterOptions(),
    *,
    device: Any = None,
    progress: ProgressCallback | None = None,
) -> Clusters:
    """Put images that seem to be of one identity into one cluster.

    - The images of a tracklet stay together: its mean feature is clustered, and counts for DBSCAN as many times as it
      has images. Under HDBSCAN it counts once, and a tracklet in no cluster is one if it has `min_samples` images.
    - Tracklets that one camera saw at one time are never one identity: clusters with such a pair are split, see
      `split_simultaneous`. Parts with fewer than `min_samples` images are in no cluster then.

    Args:
        features: (N, D) float array.
        camids: (N,) int64, -1 unknown; None: all unknown.
        times: (N,) float64 seconds, NaN unknown; None: all unknown.
        tracklets: (N,) texts, empty where unknown; None: all unknown. See `tracklet_rows`.
        options: of the clustering.
        device: the device that searches for neighbours; None: the CPU.
        progress: called as `progress(done, total)`, in units of work.
    Raises: EvaluationError: fewer than two images or tracklets, features that cannot be compared, or a missing library.
    Example:
        >>> import numpy as np
        >>> features = np.repeat(np.eye(3), 5, axis=0)  # three people, five images each
        >>> cluster(features, options=ClusterOptions(k1=4, k2=2)).labels.tolist()
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    """
    features = np.asarray(features)
    count = len(features)
    camids = np.full(count, -1) if camids is None else camids
    times = np.full(count, np.nan) if times is None else times
    rows = tracklet_rows(camids, np.full(count, "") if tracklets is None else tracklets)
    weights = np.bincount(rows)
    if len(weights) < 2:
        raise EvaluationError(
            f"clustering: {count} images hold {len(weights)} tracklets (an image without one counts as its own); give "
            "at least two tracklets"
        )
    if options.centre_cameras:
        features = centred(features, camids)
    distances = JaccardDistances(
        mean_features(features, rows), options.k1, options.k2, device=device, progress=progress
    )
    if options.method == "dbscan":
        near = distances.matrix(options.eps, progress)
        labels = dbscan(near, options.eps, options.min_samples, weights)
    else:
        labels = hdbscan(distances, options.min_samples, progress)
        whole = np.flatnonzero((labels == ALONE) & (weights >= options.min_samples))
        labels[whole] = labels.max() + 1 + np.arange(len(whole))
    seen = shared_moments(camids, times, rows) if options.apart else np.empty((0, 2), np.int64)
    labels, split = split_simultaneous(labels, distances, seen)
    images = np.bincount(labels[labels != ALONE], weights[labels != ALONE], minlength=1)
    small = [part for parts in split for part in parts if images[part] < options.min_samples]
    labels[np.isin(labels, small)] = ALONE
    return Clusters(
        labels=_by_size(labels[rows]),
        features=np.asarray(features, np.float32),
        tracklets=int((weights > 1).sum()),
        pairs_apart=count_apart(seen),
        split=len(split),
        dissolved=len(small),
    )


def _by_size(labels: np.ndarray) -> np.ndarray:
    """The same clusters, numbered from 0: the one with most images first, of equal ones that with the first image."""
    inside = labels != ALONE
    names, first, place, counts = np.unique(labels[inside], return_index=True, return_inverse=True, return_counts=True)
    numbers = np.empty(len(names), np.int64)
    numbers[np.lexsort((first, -counts))] = np.arange(len(names))
    result = np.full(len(labels), ALONE)
    result[inside] = numbers[place]
    return result

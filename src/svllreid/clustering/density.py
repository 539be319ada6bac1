"""Clusters of images from sparse distances, by DBSCAN and HDBSCAN of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from svllreid.clustering.libraries import scikit_learn, scipy_sparse

ALONE = -1
"""The label of images that belong to no cluster."""
_LEAST = 1e-6  # SciPy's spanning tree takes a distance of 0 for no edge


def dbscan(distances: Any, eps: float, min_samples: int, weights: np.ndarray | None = None) -> np.ndarray:
    """DBSCAN: images with enough near images are cores; cores that are near each other, and what is near them, are one.

    Args:
        distances: (N, N) sparse distances with a stored diagonal, of which all up to `eps` are stored.
        eps: images at most this far apart are near.
        min_samples: an image with so many images near it, itself included, is a core.
        weights: (N,) for how many images each row stands; None: one.
    Returns: (N,) int64 labels from 0; ALONE (-1) for those in no cluster.
    Raises: EvaluationError: scikit-learn is not installed.
    Source: Ester et al., KDD 1996.
    """
    sklearn = scikit_learn()
    near = sklearn.neighbors.sort_graph_by_row_values(distances, copy=True, warn_when_not_sorted=False)
    clusters = sklearn.cluster.DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")
    return np.asarray(clusters.fit(near, sample_weight=weights).labels_, np.int64)


def hdbscan(distances: Any, min_samples: int) -> np.ndarray:
    """HDBSCAN: the clusters that last longest while the distance up to which images are joined shrinks.

    scikit-learn refuses sparse distances where an image has too few neighbours, or where the images fall into parts
    that no stored pair connects. Here the pairs that it needs are added at their true distance, 1, so the result is
    that of the whole N × N matrix, as far as ties do not decide. It never puts all images into one cluster.

    Args:
        distances: (N, N) sparse distances with a stored diagonal; pairs that are not stored are 1 apart.
        min_samples: the smallest cluster, and the number of neighbours that decide how dense the images around an image
            are; at least 2. Of fewer images nothing is clustered.
    Returns: (N,) int64 labels from 0; ALONE (-1) for those in no cluster.
    Raises: EvaluationError: scikit-learn is not installed.
    Source: Campello et al., PAKDD 2013.
    """
    sklearn = scikit_learn()
    if distances.shape[0] < max(2, min_samples):
        return np.full(distances.shape[0], ALONE)
    clusters = sklearn.cluster.HDBSCAN(
        min_cluster_size=min_samples, min_samples=min_samples, metric="precomputed", algorithm="brute", copy=False
    )
    return np.asarray(clusters.fit(_connected(distances, min_samples)).labels_, np.int64)


def _connected(distances: Any, least: int) -> Any:
    """The distances, symmetric, with pairs at distance 1 added: `least` entries a row, and all images connected."""
    sparse = scipy_sparse()
    count = distances.shape[0]
    pairs = sparse.coo_array(distances)
    upper = pairs.row < pairs.col
    rows, columns = pairs.row[upper].astype(np.int64), pairs.col[upper].astype(np.int64)
    values = np.maximum(pairs.data[upper], _LEAST)
    known = rows * count + columns
    _, part = sparse.csgraph.connected_components(distances, directed=False)
    heads = np.unique(part, return_index=True)[1]
    entries = np.bincount(np.concatenate([rows, columns]), minlength=count) + 1
    extra = [np.minimum(heads[:-1], heads[1:]) * count + np.maximum(heads[:-1], heads[1:])]
    for image in np.flatnonzero(entries < least):
        others = np.setdiff1d(np.arange(min(count, 2 * least)), image)
        extra.append(np.minimum(others, image) * count + np.maximum(others, image))
    added = np.setdiff1d(np.concatenate(extra), known)
    rows, columns = np.concatenate([rows, added // count]), np.concatenate([columns, added % count])
    values = np.concatenate([values, np.ones(len(added), values.dtype)])
    diagonal = np.arange(count)
    cells = [np.concatenate(part).astype(np.int32) for part in ((rows, columns, diagonal), (columns, rows, diagonal))]
    numbers = np.concatenate([values, values, np.zeros(count, values.dtype)])
    return sparse.csr_array((numbers, tuple(cells)), shape=distances.shape)

"""Clusters of images from sparse distances, by DBSCAN and HDBSCAN of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from svllreid.clustering.jaccard import JaccardDistances, Pairs
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter
from svllreid.libraries import need

ALONE = -1
"""The label of images that belong to no cluster."""
_LEAST = np.float32(1e-6)  # SciPy's spanning tree takes a distance of 0 for no edge
_EDGES = 1 << 22  # so many pairs are kept before their spanning tree replaces them


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
    near = need("sklearn.neighbors").sort_graph_by_row_values(distances, copy=True, warn_when_not_sorted=False)
    clusters = need("sklearn.cluster").DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")
    return np.asarray(clusters.fit(near, sample_weight=weights).labels_, np.int64)


def hdbscan(distances: JaccardDistances, min_samples: int, progress: ProgressCallback | None = None) -> np.ndarray:
    """HDBSCAN: the clusters that last longest while the distance up to which images are joined shrinks.

    scikit-learn's needs all pairs of images in memory. Here its first step, the spanning tree of the images, is made
    from blocks of pairs, and scikit-learn finds the clusters in the tree. Pairs that share no neighbour count with
    their true distance, 1, so the result is that of the whole N × N matrix, as far as ties do not decide. It never puts
    all images into one cluster.

    Args:
        distances: of the images.
        min_samples: the smallest cluster, and the number of neighbours that decide how dense the images around an image
            are; at least 2. Of fewer images nothing is clustered.
        progress: called as `progress(done, total)`, in images, each counted twice.
    Returns: (N,) int64 labels from 0; ALONE (-1) for those in no cluster.
    Raises: EvaluationError: scikit-learn is not installed.
    Source: Campello et al., PAKDD 2013.
    """
    if distances.count < max(2, min_samples):
        return np.full(distances.count, ALONE)
    counter = ProgressCounter(progress, 2 * distances.count)
    tree = _spanning_tree(distances, _core_distances(distances, min_samples, counter), counter)
    # The tree's distances take the density into account already, so no further neighbour counts.
    clusters = need("sklearn.cluster").HDBSCAN(
        min_cluster_size=min_samples, min_samples=1, metric="precomputed", algorithm="brute", copy=False
    )
    return np.asarray(clusters.fit(tree).labels_, np.int64)


def _core_distances(distances: JaccardDistances, nth: int, counter: ProgressCounter) -> np.ndarray:
    """The distance of each image to its nth nearest one, itself the first; 1 where fewer share a neighbour with it."""
    cores = np.ones(distances.count, np.float32)
    for rows, _, values in distances.blocks():
        first, last = int(rows[0]), int(rows[-1]) + 1
        starts = np.searchsorted(rows, np.arange(first, last + 1))
        values = values[np.lexsort((values, rows))]
        enough = np.flatnonzero(np.diff(starts) >= nth)
        cores[first + enough] = values[starts[enough] + nth - 1]
        counter.add(last - first)
    return cores


def _spanning_tree(distances: JaccardDistances, cores: np.ndarray, counter: ProgressCounter) -> Any:
    """The minimum spanning tree (N, N) of mutual reachability, the larger of distance and both core distances.

    The tree of two sets of edges is that of the first set's tree together with the second set.
    """
    sparse, csgraph, count = need("scipy.sparse"), need("scipy.sparse.csgraph"), distances.count

    def tree_of(edges: list[Pairs]) -> Any:
        rows, columns, values = (np.concatenate(part) for part in zip(*edges, strict=True))
        places = rows.astype(np.int32), columns.astype(np.int32)
        return csgraph.minimum_spanning_tree(sparse.csr_array((values, places), shape=(count, count))).tocoo()

    none = np.empty(0, np.int64)
    waiting, entries = [Pairs(none, none, np.empty(0, np.float32))], 0
    for rows, columns, values in distances.blocks():
        upper = rows < columns
        pairs = Pairs(rows[upper], columns[upper], values[upper])
        reach = np.maximum(np.maximum(cores[pairs.rows], cores[pairs.columns]), np.maximum(pairs.distances, _LEAST))
        waiting.append(pairs._replace(distances=reach))
        entries += len(reach)
        if entries > _EDGES:
            tree = tree_of(waiting)
            waiting, entries = [Pairs(tree.row, tree.col, tree.data)], 0
        counter.add(int(rows[-1] - rows[0]) + 1)
    tree = tree_of(waiting)
    _, part = csgraph.connected_components(tree, directed=False)
    heads = np.unique(part, return_index=True)[1]  # an image of each part; all pairs between parts are 1 apart
    rows, columns = np.concatenate([tree.row, heads[:-1]]), np.concatenate([tree.col, heads[1:]])
    values = np.concatenate([tree.data, np.ones(len(heads) - 1, tree.data.dtype)])
    places = np.concatenate([rows, columns]), np.concatenate([columns, rows])
    return sparse.csr_array((np.concatenate([values, values]), places), shape=(count, count))

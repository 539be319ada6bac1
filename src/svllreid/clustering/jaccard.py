"""k-reciprocal Jaccard distances of a set of images to each other, as a sparse matrix.

Source: Zhong et al., CVPR 2017, arXiv:1701.08398.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from svllreid.arguments import whole_number
from svllreid.clustering.libraries import scipy_sparse
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.ranking.neighbourhoods import Neighbourhoods
from svllreid.evaluation.ranking.neighbours import find_neighbours

K1, K2 = 30, 6
_BLOCK_NUMBERS = 1 << 24  # of the dense block of rows from which the entries are taken


def jaccard_distances(
    features: Any,
    k1: int = K1,
    k2: int = K2,
    *,
    at_most: float = 1.0,
    device: torch.device | str | None = None,
    progress: ProgressCallback | None = None,
) -> Any:
    """The Jaccard distances of all pairs of N images that share a k-reciprocal neighbour; all other pairs are 1 apart.

    Every image is described by the weights of its k1 reciprocal nearest neighbours, averaged over its k2 nearest
    neighbours. The distance of two images is 1 minus the share that their descriptions have in common: 0 where they are
    equal, 1 where no image is in both. These are the distances of re-ranking (`svllreid.rerank` with `lambda_value=0`),
    here of one set against itself. The N × N matrix is never made.

    Args:
        features: (N, D) float tensor or array, N at least 2; compared in float32 by Euclidean distance.
        k1: number of nearest neighbours that are tested for reciprocity. Of fewer images all are taken.
        k2: number of nearest neighbours over which descriptions are averaged, the image itself included.
        at_most: pairs that are farther apart are left out too, which saves memory.
        device: the device that searches for neighbours; None takes that of the features, the CPU for arrays.
        progress: called as `progress(done, total)`, in images, each counted three times.
    Returns: a `scipy.sparse.csr_array` (N, N) of float32. Zeros on its diagonal, and of other pairs at distance 0, are
        stored; what is not stored is 1, or above `at_most`. Entries (i, j) and (j, i) may differ by rounding.
    Raises: EvaluationError: features that cannot be compared (see `evaluate_features`), a k below 1, or no SciPy.
    Example:
        The first two of four images on a line are each other's neighbours, as are the last two.

        >>> import numpy as np
        >>> distances = jaccard_distances(np.array([[0.0], [0.1], [5.0], [5.1]]), k1=1, k2=1)
        >>> distances.toarray().round(2).tolist(), distances.nnz
        ([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], 8)
    """
    k1, k2 = (whole_number(k, f"clustering: {name}", EvaluationError) for name, k in (("k1", k1), ("k2", k2)))
    sparse = scipy_sparse()
    images = Features(features, "features", device)
    images = Features(images.rows(0, images.count).float(), "features")
    counter = ProgressCounter(progress, 3 * images.count)
    neighbours = find_neighbours(images, (k1 + 1, round(k1 / 2) + 1, k2), counter)
    neighbourhoods = Neighbourhoods(neighbours, images.count, k1, k2, counter, first_gallery=0)
    counts, columns, values = [], list[np.ndarray](), list[np.ndarray]()
    step = max(1, _BLOCK_NUMBERS // images.count)
    for start in range(0, images.count, step):
        stop = min(start + step, images.count)
        rows, place, distances = _near_pairs(neighbourhoods.common(start, stop).numpy(), start, at_most)
        counts.append(np.bincount(rows, minlength=stop - start))
        columns.append(place.astype(np.int32))
        values.append(distances)
        counter.add(stop - start)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return sparse.csr_array((np.concatenate(values), np.concatenate(columns), starts), shape=(images.count,) * 2)


def _near_pairs(common: np.ndarray, first: int, at_most: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of a block of rows that share something: row in the block, column, and Jaccard distance, by rows.

    Args:
        common: (n, N) what the images first, first + 1, … have in common with all images, 0 to 1.
        first: the first image of the block.
        at_most: the largest distance that is kept.
    """
    lines = np.arange(len(common))
    common[lines, lines + first] = 1  # an image with itself, without the rounding
    place = np.flatnonzero(common)
    shared = common.ravel()[place]
    distances = np.maximum(1 - shared / (2 - shared), 0)
    kept = distances <= at_most
    rows, columns = np.divmod(place[kept], common.shape[1])
    return rows, columns, distances[kept]

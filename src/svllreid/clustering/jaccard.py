"""k-reciprocal Jaccard distances of a set of images to each other, in sparse form.

Source: Zhong et al., CVPR 2017, arXiv:1701.08398.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from svllreid.arguments import whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.ranking.neighbourhoods import Neighbourhoods
from svllreid.evaluation.ranking.neighbours import find_neighbours
from svllreid.libraries import need

K1, K2 = 30, 6
_BLOCK_NUMBERS = 1 << 23  # of the dense block of rows from which the entries are taken
_GAP = 4  # rows so near to each other are read together with those between them, which is faster than one by one


class Pairs(NamedTuple):
    """Some pairs of images with their distances, in ascending order of rows and columns: three arrays (P,)."""

    rows: np.ndarray
    columns: np.ndarray
    distances: np.ndarray


class JaccardDistances:
    """The Jaccard distances of all pairs of N images that share a k-reciprocal neighbour; all other pairs are 1 apart.

    Every image is described by the weights of its k1 reciprocal nearest neighbours, averaged over its k2 nearest
    neighbours. The distance of two images is 1 minus the share that their descriptions have in common: 0 where they are
    equal, 1 where no image is in both. These are the distances of re-ranking (`svllreid.rerank` with `lambda_value=0`),
    here of one set against itself. The N × N matrix is never made, and pairs are computed again whenever they are read.

    Memory: a copy of the features, and some hundred numbers for each image.

    Args:
        features: (N, D) float tensor or array, N at least 1; compared in float32 by Euclidean distance.
        k1: number of nearest neighbours that are tested for reciprocity. Of fewer images all are taken.
        k2: number of nearest neighbours over which descriptions are averaged, the image itself included.
        device: the device that searches for neighbours; None takes that of the features, the CPU for arrays.
        progress: called as `progress(done, total)` while neighbours are found and images described.
    Raises: EvaluationError: features that cannot be compared (see `evaluate_features`), or a k below 1.
    Example:
        The first two of four images on a line are each other's neighbours, as are the last two.

        >>> import numpy as np
        >>> distances = JaccardDistances(np.array([[0.0], [0.1], [5.0], [5.2]]), k1=1, k2=1)
        >>> [(int(i), int(j)) for i, j, _ in zip(*distances.among(np.arange(4)))]
        [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)]
    """

    def __init__(
        self,
        features: Any,
        k1: int = K1,
        k2: int = K2,
        *,
        device: torch.device | str | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        k1, k2 = (whole_number(k, f"clustering: {name}", EvaluationError) for name, k in (("k1", k1), ("k2", k2)))
        images = Features(features, "features", device)
        images = Features(images.rows(0, images.count).float(), "features")
        counter = ProgressCounter(progress, 2 * images.count)
        neighbours = find_neighbours(images, (k1 + 1, round(k1 / 2) + 1, k2), counter)
        self.count = images.count
        self.neighbourhoods = Neighbourhoods(neighbours, self.count, k1, k2, counter, first_gallery=0)

    def blocks(self, at_most: float = 1.0, progress: ProgressCallback | None = None) -> Iterator[Pairs]:
        """All pairs (i, j) and (j, i) that share a neighbour and are at most `at_most` apart, some rows at a time.

        An image and itself are such a pair, at distance 0. Entries (i, j) and (j, i) may differ by rounding.

        Args:
            at_most: the largest distance that is given.
            progress: called as `progress(done, total)`, in images.
        """
        counter, step = ProgressCounter(progress, self.count), max(1, _BLOCK_NUMBERS // self.count)
        for start in range(0, self.count, step):
            stop = min(start + step, self.count)
            rows, columns, distances = _near(self.neighbourhoods.common(start, stop).numpy(), start)
            kept = distances <= at_most
            yield Pairs(rows[kept] + start, columns[kept], distances[kept])
            counter.add(stop - start)

    def among(self, members: np.ndarray, most: int | None = None) -> Pairs:
        """The pairs among some images that share a neighbour, each image and itself among them.

        Args:
            members: (M,) the images, ascending; rows and columns of the result are indices into it.
            most: of each image only so many of the nearest are given, itself included, of equal ones the first; None:
                all.
        """
        step = max(1, _BLOCK_NUMBERS // self.count)
        ends = np.flatnonzero((np.diff(members) > _GAP) | (np.diff(members // step) > 0)) + 1
        parts, first = list[Pairs](), 0
        for run in np.split(members, ends):
            common = self.neighbourhoods.common(int(run[0]), int(run[-1]) + 1).numpy()
            rows, columns, distances = _near(common[np.ix_(run - run[0], members)], first)
            if most is not None and len(members) > most:
                order = np.lexsort((distances, rows))
                starts = np.searchsorted(rows, np.arange(len(run)))
                order = np.sort(order[np.arange(len(rows)) - starts[rows] < most])
                rows, columns, distances = rows[order], columns[order], distances[order]
            parts.append(Pairs(rows + first, columns, distances))
            first += len(run)
        return Pairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def matrix(self, at_most: float = 1.0, progress: ProgressCallback | None = None) -> Any:
        """The pairs of `blocks` as a `scipy.sparse.csr_array` (N, N) of float32, in which distances of 0 are stored.

        Raises: EvaluationError: SciPy is not installed.
        """
        sparse = need("scipy.sparse")
        counts, columns, distances = np.zeros(self.count + 1, np.int64), list[np.ndarray](), list[np.ndarray]()
        for pairs in self.blocks(at_most, progress):
            counts[1:] += np.bincount(pairs.rows, minlength=self.count)
            columns.append(pairs.columns.astype(np.int32))
            distances.append(pairs.distances)
        entries = np.concatenate(distances), np.concatenate(columns), np.cumsum(counts)
        return sparse.csr_array(entries, shape=(self.count,) * 2)


def _near(common: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of a block of rows that share something: row in the block, column, and Jaccard distance, by rows.

    Args:
        common: (n, N) what the images of columns first, first + 1, … have in common with all images, 0 to 1; it is
            changed.
        first: the column of the first row's image.
    """
    lines = np.arange(len(common))
    common[lines, lines + first] = 1  # an image with itself, without the rounding
    place = np.flatnonzero(common)
    shared = common.ravel()[place]
    rows, columns = np.divmod(place, common.shape[1])
    return rows, columns, np.maximum(1 - shared / (2 - shared), 0)

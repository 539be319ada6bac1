"""k-reciprocal re-ranking with sparse vectors, in blocks: without a loop over images and without an N × N matrix.

Source: Zhong et al., CVPR 2017, arXiv:1701.08398.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from svllreid.arguments import share, whole_number
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matrix import Features, check_dimensions
from svllreid.evaluation.ranking.neighbourhoods import Neighbourhoods
from svllreid.evaluation.ranking.neighbourhoods_gpu import GpuNeighbourhoods
from svllreid.evaluation.ranking.neighbours import find_neighbours


@dataclass(frozen=True)
class RerankOptions:
    """The options of k-reciprocal re-ranking; the defaults are those of the published test.

    Args:
        k1: number of nearest neighbours that are tested for reciprocity, at least 1. Of fewer images all are taken.
        k2: number of nearest neighbours over which vectors are averaged, at least 1; 1 averages nothing.
        lambda_value: weight in [0, 1] of the original distance; the Jaccard distance has the rest.
    Raises: EvaluationError: a value is out of range.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> features, pids = np.eye(4), [1, 2, 3, 4]
        >>> options = svllreid.RerankOptions(k1=2, k2=1)
        >>> svllreid.evaluate_features(features, features, pids, pids, rerank=options).mean_ap
        1.0
    """

    k1: int = 50
    k2: int = 15
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        for name in ("k1", "k2"):
            count = whole_number(getattr(self, name), f"re-ranking: {name}", EvaluationError)
            object.__setattr__(self, name, count)  # the way for a frozen dataclass to set its own fields
        weight = share(self.lambda_value, "re-ranking: lambda_value", EvaluationError)
        object.__setattr__(self, "lambda_value", weight)


def rerank(
    q_feats: Any,
    g_feats: Any,
    *,
    k1: int = RerankOptions.k1,
    k2: int = RerankOptions.k2,
    lambda_value: float = RerankOptions.lambda_value,
    device: torch.device | str | None = None,
    progress: ProgressCallback | None = None,
) -> torch.Tensor | np.ndarray:
    """The re-ranked distances of every query to every gallery image.

    Args:
        q_feats, g_feats: (Nq, D) and (Ng, D) float tensors or arrays; compared in float32.
        k1, k2, lambda_value: see `RerankOptions`.
        device: the device that computes; None takes that of q_feats.
        progress: called as `progress(done, total)`, in images.
    Returns: (Nq, Ng) float32, smaller is nearer: a tensor on that device, or an array if q_feats is none. As published,
        they are weighted sums of Jaccard distances and of squared Euclidean distances divided by the largest of the
        query. So they have no unit and serve for ranking only: thresholds of `verify_features` do not apply to them.
    Raises: EvaluationError: features that cannot be ranked (see `evaluate_features`), or an option out of range.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> query, gallery = np.array([[0.0]]), np.array([[0.1], [0.2], [9.0]])
        >>> svllreid.rerank(query, gallery, k1=2, k2=1).argsort().tolist()
        [[0, 1, 2]]
    """
    options = RerankOptions(k1, k2, lambda_value)
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    counter = ProgressCounter(progress, Reranker.work(query.count, gallery.count) + query.count)
    reranker = Reranker(query, gallery, options, counter)
    result = torch.empty((query.count, gallery.count), device=query.device)
    step = reranker.block_rows()
    for start in range(0, query.count, step):
        stop = min(start + step, query.count)
        result[start:stop] = reranker.rows(start, stop)
        counter.add(stop - start)
    return result if isinstance(q_feats, torch.Tensor) else result.cpu().numpy()


class Reranker:
    """Computes rows of the re-ranked distance matrix; the neighbours of all images are found when it is made.

    Memory: a copy of the features, and some hundred numbers for each image.

    Args:
        query: (Nq, D) features.
        gallery: (Ng, D) features.
        options: k1, k2, lambda_value.
        counter: counts the work; making a Reranker takes `work(Nq, Ng)` units.
    Raises: EvaluationError: different D, NaN or infinite rows, or options of another type.
    """

    def __init__(self, query: Features, gallery: Features, options: RerankOptions, counter: ProgressCounter) -> None:
        if not isinstance(options, RerankOptions):
            raise EvaluationError(f"rerank is {options!r}; give RerankOptions() or None")
        check_dimensions(query, gallery)
        joined = torch.cat([part.rows(0, part.count).float() for part in (query, gallery)])  # (N, D)
        parts = Features(joined[: query.count], query.name), Features(joined[query.count :], gallery.name)
        self.plain, self.lambda_value = PairwiseDistances(*parts), options.lambda_value
        self.shape, self.dtype, self.device = self.plain.shape, torch.float32, joined.device
        self.tile = self.plain.tile
        lengths = (options.k1 + 1, round(options.k1 / 2) + 1, options.k2)
        self.neighbours = find_neighbours(Features(joined, "features"), lengths, counter)
        kind = GpuNeighbourhoods if joined.device.type == "cuda" else Neighbourhoods
        self.neighbourhoods = kind(self.neighbours, query.count, options.k1, options.k2, counter)

    @staticmethod
    def work(num_queries: int, num_gallery: int) -> int:
        """The units of progress that making a Reranker takes: one to search for and one to encode each image."""
        return 2 * (num_queries + num_gallery)

    def block_rows(self) -> int:
        """The number of query rows of a block of the usual size."""
        return self.plain.block_rows()

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """The re-ranked distances of queries start..stop, (stop − start, Ng); start is a multiple of `tile[0]`."""
        return self.reranked(start, self.plain.rows(start, stop))

    def reranked(self, start: int, block: torch.Tensor) -> torch.Tensor:
        """Replace the plain distances (n, Ng) of the queries from `start` on by re-ranked ones; returns the block."""
        stop = start + len(block)
        block *= self.lambda_value / self.neighbours.largest[start:stop, None]
        common = self.neighbourhoods.common(start, stop).to(self.device)
        common.div_(2 - common).sub_(1).mul_(self.lambda_value - 1)  # (1 − λ) (1 − m / (2 − m))
        return block.add_(common)

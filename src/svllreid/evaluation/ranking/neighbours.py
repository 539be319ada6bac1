"""The nearest neighbours of all images of a test, queries and gallery together, as re-ranking starts from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from svllreid.evaluation.ranking.blocks import ProgressCounter
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.ranking.topk import smallest

# Neighbours kept in addition to the longest list: near ties at the end of a list are decided among them, in float64.
_SLACK = 8
_NEAR_TIE = 4e-6
_PAIR_BYTES = 16 << 20


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of N images, on one device.

    Args:
        features: (N, D) float32, the queries first.
        indices: (N, K) int64, the neighbours of each image, nearest first; the first one is the image itself, or
            another with equal features and a lower number.
        near: (N, K) float32, their squared distances divided by `largest`.
        largest: (N,) float32, the largest squared distance of each image; 1 where all distances are 0.
    """

    features: Tensor
    indices: Tensor
    near: Tensor
    largest: Tensor


def find_neighbours(features: Features, lengths: Sequence[int], counter: ProgressCounter) -> Neighbours:
    """Search for the neighbours of all images, in blocks.

    Args:
        features: of the images, in memory.
        lengths: of the lists that are needed; which images belong to each of them is decided in float64.
        counter: counts one unit for each image.
    """
    count, device = features.count, features.device
    lengths = [min(count, length) for length in lengths]
    longest = max(lengths)
    distances = PairwiseDistances(features)
    indices = torch.empty((count, longest), dtype=torch.int64, device=device)
    near, all_largest = torch.empty((count, longest), device=device), torch.empty(count, device=device)
    step = distances.block_rows()
    for start in range(0, count, step):
        stop = min(start + step, count)
        block = distances.rows(start, stop)
        rows = torch.arange(stop - start, device=device)
        block[rows, rows + start] = 0  # an image's distance to itself
        largest = block.amax(dim=1)
        largest[largest == 0] = 1  # all images equal: every distance stays 0
        values, columns = smallest(block, min(count, longest + _SLACK))
        _settle(features, rows + start, values, columns, lengths, distances.query_norms)
        indices[start:stop] = columns[:, :longest]
        near[start:stop] = values[:, :longest] / largest[:, None]
        all_largest[start:stop] = largest
        counter.add(stop - start)
    return Neighbours(features.rows(0, count), indices, near, all_largest)


def _settle(
    features: Features, rows: Tensor, values: Tensor, columns: Tensor, lengths: Sequence[int], norms: Tensor
) -> None:
    """Sort neighbours again in float64 where float32 cannot decide which of them belong to a list.

    Args:
        features: of all images.
        rows: (n,) the images.
        values, columns: (n, kept) distances and numbers of their neighbours, sorted again in place.
        lengths: of the lists.
        norms: (N,) squared norms of all images, the scale of rounding errors.
    """
    close = torch.zeros_like(rows, dtype=torch.bool)
    for end in lengths:
        if end < values.shape[1]:
            margin = _NEAR_TIE * (norms[rows] + norms[columns[:, end]])
            close |= values[:, end] - values[:, end - 1] <= margin
    wide = torch.float64 if features.device.type != "mps" else torch.float32
    step = max(1, _PAIR_BYTES // (8 * features.dim * values.shape[1]))
    for part in close.nonzero()[:, 0].split(step):
        ordered = columns[part].sort(dim=1).values
        others = features.take(ordered.flatten()).to(wide)
        others = others.view(*ordered.shape, features.dim)  # (n, kept, D)
        images = features.take(rows[part]).to(wide)[:, None]  # (n, 1, D)
        exact, order = (others - images).square().sum(dim=2).sort(dim=1, stable=True)
        columns[part], values[part] = ordered.gather(1, order), exact.to(values.dtype)

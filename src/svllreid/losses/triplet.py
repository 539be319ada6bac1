"""Batch-hard triplet loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def triplet_loss(features: Tensor, labels: Tensor, margin: float | None) -> Tensor:
    """Batch-hard triplet loss: pull the farthest positive nearer, push the nearest negative away.

    Args:
        features: (B, D) float, not normalised.
        labels: (B,) int64, at least two different ones; an anchor that is alone with its label is its own positive.
        margin: hinge in units of feature distance; None selects the soft margin log(1 + exp(.)).
    Returns: scalar, the mean over anchors.
    Source: Hermans et al. 2017, arXiv:1703.07737.

    >>> features, labels = torch.tensor([[0.0], [1.0], [1.2], [2.2]]), torch.tensor([0, 0, 1, 1])
    >>> round(triplet_loss(features, labels, margin=0.3).item(), 4)  # hinges of the anchors: 0.1, 1.1, 1.1 and 0.1
    0.6
    """
    with torch.autocast(features.device.type, enabled=False):  # half precision would cancel, or overflow
        features = features.float()
        squares = features.square().sum(dim=1)
        squared = squares[:, None] + squares - 2 * features @ features.T  # (B, B)
    distances = squared.clamp(min=1e-12).sqrt()
    same = labels[:, None] == labels
    farthest_positive = distances.masked_fill(~same, float("-inf")).amax(dim=1)
    nearest_negative = distances.masked_fill(same, float("inf")).amin(dim=1)
    difference = farthest_positive - nearest_negative
    if margin is None:
        return F.softplus(difference).mean()
    return F.relu(difference + margin).mean()

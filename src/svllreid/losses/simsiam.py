"""SimSiam's negative cosine similarity with stopped gradients."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def simsiam_loss(prediction1: Tensor, prediction2: Tensor, target1: Tensor, target2: Tensor) -> Tensor:
    """Minus the mean cosine of each augmented copy's prediction and the other copy's feature.

    Args:
        prediction1, prediction2: (B, D) outputs of the predictor.
        target1, target2: (B, D) features; no gradient flows into them.
    Returns: scalar in [-1, 1].
    Source: Chen & He 2021, arXiv:2011.10566.

    >>> import torch
    >>> features = torch.eye(3)
    >>> simsiam_loss(features, features, features, features).item()  # each copy predicts the other
    -1.0
    """
    first = F.cosine_similarity(prediction1.float(), target2.detach().float()).mean()
    second = F.cosine_similarity(prediction2.float(), target1.detach().float()).mean()
    return -(first + second) / 2

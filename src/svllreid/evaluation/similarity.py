"""How similar the prompts of different identities are."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def mean_similarity(text_features: Tensor) -> float:
    """The mean cosine between the text features of two different identities, over all pairs.

    Language self-supervision is meant to lower it.

    Args:
        text_features: (N, E), not necessarily normalised. A single identity has no pairs and gives 0.
    Source: Wang et al. 2025, arXiv:2407.20647.
    Example:
        >>> import torch
        >>> mean_similarity(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        0.0
    """
    count = len(text_features)
    if count < 2:
        return 0.0
    total = F.normalize(text_features.double(), dim=1).sum(dim=0)
    return float((total @ total - count) / (count * (count - 1)))

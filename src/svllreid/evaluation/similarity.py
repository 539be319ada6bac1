"""How alike the prompts of different identities are."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def mean_similarity(text_features: Tensor) -> float:
    """Mean cosine between the text features of two different identities: what language self-supervision should lower.

    Args:
        text_features: (N, E), N at least 2; for one identity the mean of nothing, 0.
    Source: Wang et al. 2025, arXiv:2407.20647.
    """
    count = len(text_features)
    if count < 2:
        return 0.0
    total = F.normalize(text_features.double(), dim=1).sum(dim=0)
    return float((total @ total - count) / (count * (count - 1)))

"""CLIP's contrastive loss between images and their captions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def clip_loss(image_features: Tensor, text_features: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of finding each image's caption among those of the batch, and each caption's image.

    Args:
        image_features, text_features: (B, E) float, not normalised; row i of both belongs together.
        scale: scalar, the inverse temperature of the cosines.
    Returns: scalar, the mean of both directions' cross-entropies.
    Source: Radford et al. 2021, arXiv:2103.00020.

    >>> images, texts = torch.eye(2), torch.eye(2)
    >>> round(clip_loss(images, texts, scale=torch.tensor(10.0)).item(), 4)  # each image nearest to its own text
    0.0
    >>> round(clip_loss(images, texts.flip(0), scale=torch.tensor(10.0)).item(), 4)  # each nearest to the other's
    10.0
    """
    logits = scale * F.normalize(image_features) @ F.normalize(text_features).T  # (B, B)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

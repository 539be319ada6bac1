"""Supervised contrastive loss between images and texts."""

from __future__ import annotations

from torch import Tensor


def supcon_loss(anchors: Tensor, others: Tensor, anchor_labels: Tensor, other_labels: Tensor) -> Tensor:
    """Pull each anchor towards every entry of the other modality with its label.

    The temperature is 1, and the features are not normalised.

    Args:
        anchors: (A, E) float, not normalised.
        others: (B, E) float, not normalised.
        anchor_labels: (A,) int64.
        other_labels: (B,) int64; at least one equal to each anchor's.
    Returns: scalar, the mean over anchors of the mean over their positives of -log softmax.
    Source: Khosla et al. 2020, arXiv:2004.11362, as CLIP-ReID uses it.

    >>> import torch
    >>> images, texts, labels = 10 * torch.eye(2), torch.eye(2), torch.tensor([0, 1])
    >>> round(supcon_loss(images, texts, labels, labels).item(), 4)
    0.0
    >>> round(supcon_loss(images, texts, labels, labels.flip(0)).item(), 4)
    10.0
    """
    log_probability = (anchors @ others.T).log_softmax(dim=1)  # (A, B)
    positive = (anchor_labels[:, None] == other_labels).to(log_probability.dtype)
    return -((positive * log_probability).sum(dim=1) / positive.sum(dim=1)).mean()

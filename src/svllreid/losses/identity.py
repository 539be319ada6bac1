"""Cross-entropy over identities."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

SMOOTHING = 0.1


def identity_loss(scores: Tensor, labels: Tensor, smooth: bool) -> Tensor:
    """Cross-entropy, with 0.1 of the target spread evenly over all identities where `smooth`.

    Args:
        scores: (B, N) logits.
        labels: (B,) int64 in 0..N-1.
        smooth: whether the labels are smoothed.
    Returns: scalar, the mean over images.
    Source: Szegedy et al. 2016, arXiv:1512.00567; Luo et al., CVPRW 2019.

    >>> import torch
    >>> scores, labels = torch.tensor([[5.0, 0.0]]), torch.tensor([0])
    >>> round(identity_loss(scores, labels, smooth=False).item(), 4)
    0.0067
    >>> round(identity_loss(scores, labels, smooth=True).item(), 4)  # smoothed labels punish certainty
    0.2567
    """
    return F.cross_entropy(scores.float(), labels, label_smoothing=SMOOTHING if smooth else 0.0)

"""SimCLR's normalised temperature-scaled cross-entropy (NT-Xent)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def simclr_loss(view1: Tensor, view2: Tensor, temperature: float = 0.1) -> Tensor:
    """Each row's positive is the same row of the other view; all other rows of both views are negatives.

    Args:
        view1, view2: (B, D) float, any length; normalised here.
        temperature: divides the cosines.
    Returns: scalar, the mean of the two views' losses; symmetric in the views; 0 for a single row.
    Source: Chen et al. 2020, arXiv:2002.05709.
    """
    count = len(view1)
    with torch.autocast(view1.device.type, enabled=False):
        rows = F.normalize(torch.cat([view1, view2]).float(), dim=1)  # (2B, D)
        logits = rows @ rows.T / temperature
    logits = logits.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=rows.device), float("-inf"))
    targets = torch.arange(2 * count, device=rows.device).roll(count)
    return F.cross_entropy(logits, targets)

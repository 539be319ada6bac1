"""SimCLR's normalised temperature-scaled cross-entropy (NT-Xent)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from svllreid.runtime.gather import gather_rows, num_processes


def simclr_loss(
    augmented1: Tensor, augmented2: Tensor, temperature: float = 0.1, identities: Tensor | None = None
) -> Tensor:
    """Each row's positive is the same row of the other copy; all other rows of both copies are negatives.

    Where several processes train together, the rows of all processes are compared. The mean of the processes' results
    is the loss over all rows, also where the processes have different numbers of rows.

    Args:
        augmented1, augmented2: (B, D) float, any length; normalised here.
        temperature: divides the cosines.
        identities: (B,) int64, the identity of each row; rows of the same identity are no negatives. None: all differ.
    Returns: scalar, the mean of the two copies' losses; symmetric in the copies; 0 for a single row.
    Source: Chen et al. 2020, arXiv:2002.05709.

    >>> features = torch.eye(4)
    >>> round(simclr_loss(features, features).item(), 4)  # the copies of a row agree, different rows are orthogonal
    0.0003
    >>> round(simclr_loss(features, features.roll(1, dims=0)).item(), 2)  # a negative agrees instead
    10.0
    """
    count = len(augmented1)
    with torch.autocast(augmented1.device.type, enabled=False):
        own1, own2 = F.normalize(augmented1.float(), dim=1), F.normalize(augmented2.float(), dim=1)
        rows, first = gather_rows(torch.stack([own1, own2], dim=1))  # (N, 2, D)
        logits = torch.cat([own1, own2]) @ rows.transpose(0, 1).flatten(0, 1).T / temperature  # (2B, 2N)
    total = len(rows)
    place = torch.arange(count, device=rows.device) + first
    itself, positive = torch.cat([place, place + total]), torch.cat([place + total, place])
    ignored = torch.zeros_like(logits, dtype=torch.bool)
    if identities is not None:
        everyone, _ = gather_rows(identities)
        ignored = (identities[:, None] == everyone).repeat(2, 2).scatter(1, positive[:, None], False)
    logits = logits.masked_fill(ignored.scatter(1, itself[:, None], True), float("-inf"))
    return F.cross_entropy(logits, positive, reduction="sum") * num_processes() / (2 * max(1, total))

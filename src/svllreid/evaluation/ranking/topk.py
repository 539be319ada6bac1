"""The nearest entries of distance rows, ties in the order of the gallery."""

from __future__ import annotations

import torch


def smallest(block: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest entries of each row in stable order: equal entries in the order of their columns.

    Args:
        block: (n, N) distances.
        k: how many, at most N.
    Returns: values (n, k) ascending and their columns (n, k) int64.
    """
    values, columns = block.topk(min(k + 1, block.shape[1]), dim=1, largest=False)
    crowded = (values[:, k - 1 : k] == values[:, k:]).any(dim=1).nonzero()[:, 0]
    columns = columns[:, :k].contiguous()
    for row in crowded.tolist():  # equal entries across the border: the first columns win
        inside = (block[row] <= values[row, k]).nonzero()[:, 0]
        columns[row] = inside[block[row, inside].sort(stable=True).indices[:k]]
    columns = columns.sort(dim=1).values
    values, order = block.gather(1, columns).sort(dim=1, stable=True)
    return values, columns.gather(1, order)

"""The smallest entries of distance rows, with ties in the order of the gallery."""

from __future__ import annotations

import torch


def smallest(block: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest entries of each row, ascending; equal entries keep the order of their columns.

    Args:
        block: (n, N) distances.
        k: number of entries, at most N.
    Returns: the values (n, k), and their columns (n, k) int64.
    Example:
        >>> import torch
        >>> smallest(torch.tensor([[2.0, 1.0, 1.0, 0.0]]), k=2)[1].tolist()
        [[3, 1]]
    """
    values, columns = block.topk(min(k + 1, block.shape[1]), dim=1, largest=False)
    crowded = (values[:, k - 1 : k] == values[:, k:]).any(dim=1).nonzero()[:, 0]
    columns = columns[:, :k].contiguous()
    for row in crowded.tolist():  # entry k + 1 equals entry k: of the equal ones the first columns are taken
        inside = (block[row] <= values[row, k]).nonzero()[:, 0]
        columns[row] = inside[block[row, inside].sort(stable=True).indices[:k]]
    columns = columns.sort(dim=1).values
    values, order = block.gather(1, columns).sort(dim=1, stable=True)
    return values, columns.gather(1, order)

"""Which process this is, and the rows of all processes gathered, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def num_processes() -> int:
    """How many processes train together; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_rank() -> int:
    """This process's number among those that train together, from 0; 0 without a process group."""
    return distributed.get_rank() if num_processes() > 1 else 0


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Gathers the rows of all processes, in order of the processes' ranks.

    The gradient of a row is the sum over all processes that used it. Processes may have different numbers of rows.

    Args:
        rows: (n, ...) any type; all dimensions but the first are equal on every process.
    Returns: all N rows (N, ...), and the index of this process's first row; `rows` and 0 where there is one process.
    """
    if num_processes() == 1:
        return rows, 0
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(num_processes())]
    distributed.all_gather(counts, own)
    sizes = [int(count) for count in counts]
    return _Gather.apply(rows, sizes), sum(sizes[: process_rank()])


class _Gather(torch.autograd.Function):
    """Gathers rows padded to the largest number of rows, since gloo and NCCL gather equal shapes only."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous()
        distributed.all_reduce(gradient)
        return gradient.split(ctx.sizes)[process_rank()], None

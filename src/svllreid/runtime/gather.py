"""Rows of every process, with gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def num_processes() -> int:
    """Processes that train together; 1 where there is no process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes in order of rank, and where this process's own begin.

    The gradient of a row is summed over all processes that used it. Processes may have different numbers of rows.

    Args:
        rows: (n, ...) any type; all but n alike on every process.
    Returns: (N, ...) and the first own row; the rows themselves and 0 where there is one process.
    """
    if num_processes() == 1:
        return rows, 0
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(num_processes())]
    distributed.all_gather(counts, own)
    sizes = [int(count) for count in counts]
    return _Gather.apply(rows, sizes), sum(sizes[: distributed.get_rank()])


class _Gather(torch.autograd.Function):
    """Padded to the largest share, as gloo and NCCL gather equal shapes alone."""

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
        return gradient.split(ctx.sizes)[distributed.get_rank()], None

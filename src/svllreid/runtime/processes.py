"""Several processes that train one model: gradients averaged, rows of features gathered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.distributed.tensor import DTensor

from svllreid.runtime.gather import gather_rows, num_processes

_BUCKET_NUMBERS = 25_000_000


class OneModel(DDPStrategy):
    """Processes with a copy of the model each; the training loop averages their gradients itself.

    So a step may take several backward passes, and parameters without gradient need no special care. Waiting for
    another process, which may be ranking a large gallery, takes as long as it takes: a process that dies ends the
    others through the launcher.
    """

    def __init__(self) -> None:
        super().__init__(timeout=timedelta(days=2))

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        """The module itself, the same weights on every process."""
        for value in module.state_dict().values():
            if not isinstance(value, DTensor):
                distributed.broadcast(value, 0)
        return module


def is_first_process() -> bool:
    """Whether this process, also before the group is made, is the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def leave_together() -> None:
    """Wait for all processes and end their group: one that left early would take the connections with it."""
    if num_processes() > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def agreed(wish: bool) -> bool:
    """Whether any process wishes it: all then do the same, at the same step. On the CPU, so no GPU is waited for."""
    if num_processes() == 1:
        return wish
    votes = torch.tensor(int(wish))
    distributed.all_reduce(votes, distributed.ReduceOp.MAX, group=_talk())
    return bool(votes)


@cache
def _talk() -> Any:
    return distributed.new_group(backend="gloo")


def rank() -> int:
    """This process's number among those that train together; 0 where it is alone."""
    return distributed.get_rank() if num_processes() > 1 else 0


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes; all must have gradients for the same parameters.

    Done once the gradient is whole, so a step may take several backward passes.
    """
    if num_processes() == 1:
        return
    bucket: list[Tensor] = []
    for parameter in [*parameters, None]:
        # What is sharded has been averaged where it was gathered.
        if parameter is not None and parameter.grad is not None and not isinstance(parameter.grad, DTensor):
            bucket.append(parameter.grad)
        if bucket and (parameter is None or sum(grad.numel() for grad in bucket) >= _BUCKET_NUMBERS):
            flat = _flatten_dense_tensors(bucket)
            distributed.all_reduce(flat)
            flat /= num_processes()
            for grad, mean in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
                grad.copy_(mean)
            bucket = []


def share_buffers(module: nn.Module) -> None:
    """The first process's buffers, such as running means, for all: features then do not hang on who computes them."""
    if num_processes() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


def own_share(count: int) -> list[int]:
    """This process's rows of `count`: as many on every process, so that all compute as often; the last one repeats."""
    size = -(-count // num_processes())
    return [min(row, count - 1) for row in range(rank() * size, (rank() + 1) * size)]


def all_shares(rows: Tensor, count: int, device: torch.device) -> Tensor:
    """The rows (count, ...) of which each process has the share that `own_share` named, on the CPU."""
    return gather_rows(rows.to(device))[0][:count].cpu() if num_processes() > 1 else rows

"""Several processes that train one model: averaging gradients, splitting rows over processes, deciding together."""

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

from svllreid.runtime.gather import gather_rows, num_processes, process_rank

_BUCKET_NUMBERS = 25_000_000  # gradients that are averaged in one transfer


class ReplicaStrategy(DDPStrategy):
    """Lightning Fabric's DDP without its wrapper: each process holds the model, and `average_gradients` is called.

    A step may therefore take several backward passes, and parameters without a gradient need no special care. A process
    may wait for another one as long as it takes, since the first process may be ranking a large gallery; when a process
    dies, the launcher ends the others.
    """

    def __init__(self) -> None:
        super().__init__(timeout=timedelta(days=2))

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        """Gives every process the first one's weights and returns the module itself."""
        for value in module.state_dict().values():
            if not isinstance(value, DTensor):
                distributed.broadcast(value, 0)
        return module


def is_first_process() -> bool:
    """Whether this is the process that writes files and prints; known before the process group exists."""
    return os.environ.get("RANK", "0") == "0"


def end_process_group() -> None:
    """Waits for all processes, then ends their group: a process that left early would break the others' connections."""
    if num_processes() > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def any_process(wish: bool) -> bool:
    """Whether `wish` is true in any of the processes, which all call this at the same step and all get the same answer.

    The answer travels between CPUs, so no GPU is waited for.
    """
    if num_processes() == 1:
        return wish
    votes = torch.tensor(int(wish))
    distributed.all_reduce(votes, distributed.ReduceOp.MAX, group=_cpu_group())
    return bool(votes)


@cache
def _cpu_group() -> Any:
    return distributed.new_group(backend="gloo")


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the processes.

    It is called once all backward passes of a step are done. Sharded gradients are left as they are, since FSDP has
    averaged them.

    Args:
        parameters: the same ones on every process, with gradients for the same ones of them.
    """
    if num_processes() == 1:
        return
    bucket: list[Tensor] = []
    for parameter in [*parameters, None]:
        if parameter is not None and parameter.grad is not None and not isinstance(parameter.grad, DTensor):
            bucket.append(parameter.grad)
        if bucket and (parameter is None or sum(grad.numel() for grad in bucket) >= _BUCKET_NUMBERS):
            flat = _flatten_dense_tensors(bucket)
            distributed.all_reduce(flat)
            flat /= num_processes()
            for grad, mean in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
                grad.copy_(mean)
            bucket = []


def broadcast_buffers(module: nn.Module) -> None:
    """Gives every process the first one's buffers, such as running means, so that all compute the same features."""
    if num_processes() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


def own_rows(count: int) -> list[int]:
    """Which of `count` rows this process computes when rows are split over the processes.

    Every process gets equally many, so that all take part in the same number of collective calls; where the rows do not
    suffice, the last row is repeated.

    >>> own_rows(3)  # one process computes all
    [0, 1, 2]
    """
    size = -(-count // num_processes())
    return [min(row, count - 1) for row in range(process_rank() * size, (process_rank() + 1) * size)]


def rows_of_all(rows: Tensor, count: int, device: torch.device) -> Tensor:
    """All `count` rows, on the CPU, after each process has computed those that `own_rows` gave it.

    Args:
        rows: (n, ...) this process's rows.
        count: rows of all processes without the repeated ones.
        device: where they are gathered.
    Returns: (count, ...), the same on every process.
    """
    return gather_rows(rows.to(device))[0][:count].cpu() if num_processes() > 1 else rows

"""Several processes that train one model: gradients averaged, rows of features gathered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from svllreid.losses.gather import num_processes

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
        if parameter is not None and parameter.grad is not None:
            bucket.append(parameter.grad)
        if bucket and (parameter is None or sum(grad.numel() for grad in bucket) >= _BUCKET_NUMBERS):
            flat = _flatten_dense_tensors(bucket)
            distributed.all_reduce(flat)
            flat /= num_processes()
            for grad, mean in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
                grad.copy_(mean)
            bucket = []

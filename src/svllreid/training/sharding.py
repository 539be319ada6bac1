"""Weights, gradients and optimiser state of an encoder sharded over the processes (FSDP), for large backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from svllreid.runtime.gather import num_processes


def shard(encoder: nn.Module, blocks: Sequence[nn.Module], device: torch.device) -> None:
    """Shard the parameters of an encoder: each process keeps a part, and they are gathered while they are needed.

    Args:
        encoder: changed in place; its parameters become DTensors.
        blocks: modules of the encoder. The parameters of each are gathered while that block is called, all others while
            the encoder is.
        device: the device of the encoder.
    Source: Zhao et al. 2023, arXiv:2304.11277.
    """
    mesh = init_device_mesh(device.type, (num_processes(),))
    for part in (*blocks, encoder):
        fully_shard(part, mesh=mesh)


def full_tensors(tree: Any) -> Any:
    """The tree of dicts and lists with every sharded tensor gathered; all processes must call it."""
    if isinstance(tree, dict):
        return {key: full_tensors(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [full_tensors(value) for value in tree]
    return tree.full_tensor() if isinstance(tree, DTensor) else tree


def sharded_like(value: Tensor, reference: Tensor) -> Tensor:
    """A full tensor sharded in the same way as `reference`.

    It is returned as it is where `reference` is not sharded or has another shape.
    """
    if not isinstance(reference, DTensor) or value.shape != reference.shape:
        return value
    return distribute_tensor(value.to(reference.device), reference.device_mesh, reference.placements)


def optimizer_state_like(state: dict[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """An optimiser's state dict whose tensors are sharded in the same way as the parameters they belong to.

    Args:
        state: the state dict with full tensors.
        parameters: the optimiser's parameters in the order of its groups.
    """
    sharded = {
        number: {
            name: sharded_like(value, parameters[number]) if isinstance(value, Tensor) else value
            for name, value in entries.items()
        }
        for number, entries in state["state"].items()
    }
    return {**state, "state": sharded}


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """The Euclidean norm of the gradients of all parameters; all processes must call it."""
    gradients = {str(n): p.grad for n, p in enumerate(parameters) if p.grad is not None}
    norms = [
        full_tensors(nn.utils.get_total_norm([gradients[name] for name in names]))
        for names in names_by_sharding(gradients)
    ]
    return float(torch.stack(norms).norm())


def names_by_sharding(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of the full tensors and those of the sharded ones, as two lists; a list without names is left out.

    PyTorch's operations on several tensors take full ones or sharded ones, but not both.
    """
    groups = (
        [name for name, value in tensors.items() if isinstance(value, DTensor) is sharded] for sharded in (False, True)
    )
    return [group for group in groups if group]

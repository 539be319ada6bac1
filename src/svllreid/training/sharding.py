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
    """Give each process a share of every parameter; a block's are put together while it computes.

    Args:
        encoder: changed in place; its parameters become DTensors.
        blocks: of the encoder, each put together while it is called; all else while the encoder is.
        device: where it lies.
    Source: Zhao et al. 2023, arXiv:2304.11277.
    """
    mesh = init_device_mesh(device.type, (num_processes(),))
    for part in (*blocks, encoder):
        fully_shard(part, mesh=mesh)


def whole(tree: Any) -> Any:
    """The tree with every sharded tensor gathered; all processes must ask for it."""
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [whole(value) for value in tree]
    return tree.full_tensor() if isinstance(tree, DTensor) else tree


def like(value: Tensor, reference: Tensor) -> Tensor:
    """A whole tensor sharded as `reference` is; itself where that is whole, or of another shape."""
    if not isinstance(reference, DTensor) or value.shape != reference.shape:
        return value
    return distribute_tensor(value.to(reference.device), reference.device_mesh, reference.placements)


def optimizer_state_like(state: dict[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """An optimiser's state dict sharded as its parameters, in their order, are."""
    shared = {
        number: {name: like(v, parameters[number]) if isinstance(v, Tensor) else v for name, v in own.items()}
        for number, own in state["state"].items()
    }
    return {**state, "state": shared}


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Length of the whole gradient; all processes must ask for it."""
    gradients = {str(n): p.grad for n, p in enumerate(parameters) if p.grad is not None}
    norms = [whole(nn.utils.get_total_norm([gradients[name] for name in names])) for names in alike(gradients)]
    return float(torch.stack(norms).norm())


def alike(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Names of the tensors that are whole, and of those sharded, as no operation takes both; no empty list."""
    groups = ([name for name, value in tensors.items() if isinstance(value, DTensor) is kind] for kind in (False, True))
    return [group for group in groups if group]

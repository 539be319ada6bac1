"""Optimisers with the published parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

OPTIMIZERS = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
# The blocks of CLIP's ViT count from 0, the stages of its ResNet from 1.
_DEPTH = re.compile(r"image_encoder\.(?:transformer\.resblocks\.(\d+)|layer(\d))\.")
_BELOW = re.compile(r"image_encoder\.(conv\d|bn\d|class_embedding|positional_embedding|ln_pre)")


def make_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    bias_lr_factor: float = 1.0,
    weight_decay_bias: float | None = None,
    layer_decay: float = 1.0,
    name: str = "Adam",
) -> torch.optim.Optimizer:
    """Adam (with the L2 penalty in the gradient) or AdamW, with weights and biases in separate parameter groups.

    Args:
        parameters: pairs of name and parameter; a parameter whose name contains `bias` counts as a bias.
        lr: base learning rate. Each group keeps its factor of it under the key `lr_factor`, see `set_lr`.
        weight_decay: penalty of the weights.
        bias_lr_factor: factor of the biases' learning rate.
        weight_decay_bias: penalty of the biases; None takes that of the weights.
        layer_decay: factor of the learning rate from each block of the image encoder to the one before it; 1 gives all
            blocks the same rate.
        name: `Adam` or `AdamW`.
    Example:
        >>> import torch
        >>> parameters = torch.nn.Linear(2, 1).named_parameters()
        >>> optimizer = make_optimizer(parameters, lr=0.1, weight_decay=0, bias_lr_factor=2)
        >>> [(group["names"], group["lr"]) for group in optimizer.param_groups]
        [(['weight'], 0.1), (['bias'], 0.2)]
    """
    listed = list(parameters)
    depths = {key: _depth(key) for key, _ in listed}
    top = max((depth for depth in depths.values() if depth is not None), default=0) + 1
    bias_decay = weight_decay if weight_decay_bias is None else weight_decay_bias
    groups: dict[tuple[bool, int, bool], dict[str, Any]] = {}
    for key, parameter in listed:
        bias, depth = "bias" in key, depths[key]
        below = 0 if depth is None or layer_decay == 1 else top - depth
        factor = (bias_lr_factor if bias else 1.0) * layer_decay**below
        start = {"names": [], "params": [], "lr_factor": factor, "weight_decay": bias_decay if bias else weight_decay}
        # A fused step takes sharded parameters or full ones, but not both in one group.
        group = groups.setdefault((bias, below, isinstance(parameter, DTensor)), {**start, "lr": lr * factor})
        group["names"].append(key)
        group["params"].append(parameter)
    return OPTIMIZERS[name]([groups[key] for key in sorted(groups)], fused=True)


def _depth(name: str) -> int | None:
    """How many blocks come before a parameter of the image encoder: 0 for the stem; None outside stem and blocks."""
    if _BELOW.match(name):
        return 0
    match = _DEPTH.match(name)
    return None if match is None else int(match[1]) + 1 if match[1] else int(match[2])


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group: `lr` times the group's `lr_factor`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]

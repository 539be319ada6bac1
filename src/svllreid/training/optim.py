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
    """Adam (L2 penalty in the gradient) or AdamW, weights and biases in groups of their own.

    Args:
        parameters: names and parameters; a name that contains `bias` belongs to the biases.
        lr: base learning rate; each group keeps its factor of it as `lr_factor`.
        weight_decay, weight_decay_bias: penalties; None: the same for both.
        bias_lr_factor: factor of the biases' learning rate.
        layer_decay: factor of the learning rate from each block of the image encoder to the one before it.
        name: Adam or AdamW.
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
        # Fused steps take parameters that are sharded, or such that are whole, but not both at once.
        group = groups.setdefault((bias, below, isinstance(parameter, DTensor)), {**start, "lr": lr * factor})
        group["names"].append(key)
        group["params"].append(parameter)
    return OPTIMIZERS[name]([groups[key] for key in sorted(groups)], fused=True)


def _depth(name: str) -> int | None:
    """How many blocks lie below a parameter of the image encoder; None beside the blocks or behind them."""
    if _BELOW.match(name):
        return 0
    found = _DEPTH.match(name)
    return None if found is None else int(found[1]) + 1 if found[1] else int(found[2])


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its factor of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]

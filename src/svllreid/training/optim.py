"""Optimisers with the published parameter groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def adam(
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    bias_lr_factor: float = 1.0,
    weight_decay_bias: float | None = None,
) -> torch.optim.Adam:
    """Adam (L2 penalty in the gradient) with one group for weights and one for biases.

    Args:
        parameters: names and parameters; a name that contains `bias` belongs to the biases.
        lr: base learning rate; each group keeps its factor of it as `lr_factor`.
        weight_decay, weight_decay_bias: L2 penalties; None: the same for both.
        bias_lr_factor: factor of the biases' learning rate.
    """
    weights: dict[str, Any] = {"names": [], "params": [], "lr_factor": 1.0, "weight_decay": weight_decay}
    bias_decay = weight_decay if weight_decay_bias is None else weight_decay_bias
    biases: dict[str, Any] = {"names": [], "params": [], "lr_factor": bias_lr_factor, "weight_decay": bias_decay}
    for name, parameter in parameters:
        group = biases if "bias" in name else weights
        group["names"].append(name)
        group["params"].append(parameter)
    groups = [{**group, "lr": lr * group["lr_factor"]} for group in (weights, biases) if group["params"]]
    return torch.optim.Adam(groups)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its factor of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]

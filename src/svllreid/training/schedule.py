"""Learning rates of the two stages by epoch, counted from 1."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence


def cosine_lr(
    epoch: int, *, base_lr: float, max_epochs: int, lr_min: float, warmup_epochs: int, warmup_lr_init: float
) -> float:
    """The learning rate of an epoch of stage 1: linear warm-up, then a cosine down to `lr_min`.

    The cosine starts at epoch 0, so the warm-up replaces its first part and does not shift it.

    Args:
        epoch: counted from 1.
        base_lr: learning rate where the cosine starts.
        max_epochs: epoch at which `lr_min` is reached.
        lr_min: lowest learning rate.
        warmup_epochs: the warm-up ends before this epoch.
        warmup_lr_init: learning rate from which the warm-up rises.
    Example:
        >>> settings = {"base_lr": 1.0, "max_epochs": 10, "lr_min": 0.0, "warmup_epochs": 2, "warmup_lr_init": 0.2}
        >>> [round(cosine_lr(epoch, **settings), 3) for epoch in (1, 2, 5, 10)]
        [0.6, 0.905, 0.5, 0.0]
    """
    if epoch < warmup_epochs:
        return warmup_lr_init + (base_lr - warmup_lr_init) * epoch / warmup_epochs
    return lr_min + 0.5 * (base_lr - lr_min) * (1 + math.cos(math.pi * epoch / max_epochs))


def step_lr(
    epoch: int,
    *,
    base_lr: float,
    steps: Sequence[int],
    gamma: float,
    warmup_factor: float,
    warmup_epochs: int,
    warmup_method: str = "linear",
) -> float:
    """The learning rate of an epoch of stage 2: warm-up, then a multiplication by `gamma` at each epoch of `steps`.

    Args:
        epoch: counted from 1.
        base_lr: learning rate after the warm-up.
        steps: epochs at which the rate is multiplied by `gamma`.
        gamma: the factor.
        warmup_factor: share of the base rate with which the warm-up starts.
        warmup_epochs: the warm-up ends before this epoch.
        warmup_method: `linear` rises to the base rate; `constant` stays at the share until the warm-up ends.
    Example:
        >>> settings = {"base_lr": 1.0, "steps": (4,), "gamma": 0.1, "warmup_factor": 0.5, "warmup_epochs": 2}
        >>> [step_lr(epoch, **settings) for epoch in (1, 2, 3, 4)]
        [0.75, 1.0, 1.0, 0.1]
    """
    factor = gamma ** bisect_right(sorted(steps), epoch)
    if epoch < warmup_epochs:
        share = epoch / warmup_epochs if warmup_method == "linear" else 0.0
        factor *= warmup_factor + (1 - warmup_factor) * share
    return base_lr * factor

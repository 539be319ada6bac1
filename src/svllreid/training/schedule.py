"""Learning rates of epoch 1, 2, ... in the two stages."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence


def cosine_lr(
    epoch: int, *, base_lr: float, max_epochs: int, lr_min: float, warmup_epochs: int, warmup_lr_init: float
) -> float:
    """Stage 1: linear warm-up, then a cosine to `lr_min` that the warm-up does not shift."""
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
    """Stage 2: warm-up (linear or constant), then a factor `gamma` from each epoch in `steps` on."""
    factor = gamma ** bisect_right(sorted(steps), epoch)
    if epoch < warmup_epochs:
        share = epoch / warmup_epochs if warmup_method == "linear" else 0.0
        factor *= warmup_factor + (1 - warmup_factor) * share
    return base_lr * factor

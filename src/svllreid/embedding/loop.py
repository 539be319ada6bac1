"""The loop over batches that turns many images into features."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from svllreid.types import Batch


@torch.inference_mode()
def extract(
    embed: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    device: torch.device,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Features (n, D) float32 on the CPU, in the order of the batches.

    Args:
        embed: a batch on `device` to features (B, D).
        batches: of images.
        device: where `embed` computes.
        progress: called with the number of images of each batch.
    """
    features = []
    for batch in batches:
        features.append(embed(batch.to(device)).float().cpu())
        if progress is not None:
            progress(len(batch.images))
    return torch.cat(features)

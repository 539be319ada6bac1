"""Pretraining: images and captions into one space, from scratch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from svllreid.losses.clip import clip_loss
from svllreid.rendered.pair import ImageTextPair
from svllreid.types import StepResult

BETAS, EPS = (0.9, 0.98), 1e-6  # of CLIP's ViT


class PretrainTask(nn.Module):
    """Images and captions in, CLIP's loss out.

    Args:
        model: both towers, all of them trained.
    Source: Radford et al. 2021, arXiv:2103.00020.
    """

    def __init__(self, model: ImageTextPair) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, token_ids: Tensor) -> StepResult:
        """Loss of (B, 3, H, W) images with the (B, 77) token ids of their captions."""
        loss = clip_loss(self.model.encode_image(images), self.model.encode_text(token_ids), self.model.scale)
        return StepResult(loss, {"scale": self.model.scale.detach()}, len(images))


def make_pretrain_optimizer(model: ImageTextPair, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; matrices decay, while norms, biases and the scale do not."""
    groups = []
    for decay, matrices in ((weight_decay, True), (0.0, False)):
        chosen = [(name, p) for name, p in model.named_parameters() if (p.ndim > 1) == matrices]
        names, parameters = [name for name, _ in chosen], [p for _, p in chosen]
        groups.append({"names": names, "params": parameters, "lr_factor": 1.0, "weight_decay": decay})
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, eps=EPS, fused=True)


def warm_cosine_lr(epoch: int, *, base_lr: float, max_epochs: int, warmup_epochs: int) -> float:
    """Linear warm-up, then a cosine that reaches a hundredth of `base_lr` in the last epoch."""
    if epoch <= warmup_epochs:
        return base_lr * epoch / (warmup_epochs + 1)
    share = (epoch - warmup_epochs - 1) / max(1, max_epochs - warmup_epochs - 1)
    return base_lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))

"""The task of pretraining, CLIP's contrastive loss, with its optimiser and learning rates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from svllreid.losses.clip import clip_loss
from svllreid.rendered.pair import ImageTextPair
from svllreid.types import StepResult

BETAS, EPS = (0.9, 0.98), 1e-6  # those of CLIP's ViT


class PretrainTask(nn.Module):
    """Computes CLIP's loss of a batch of images with captions.

    Args:
        model: both towers; all their weights are trained.
    Source: Radford et al. 2021, arXiv:2103.00020.
    """

    def __init__(self, model: ImageTextPair) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, token_ids: Tensor) -> StepResult:
        """The loss of normalised images (B, 3, H, W) with the token ids (B, 77) of their captions."""
        loss = clip_loss(self.model.encode_image(images), self.model.encode_text(token_ids), self.model.scale)
        return StepResult(loss, {"scale": self.model.scale.detach()}, len(images))


def make_pretrain_optimizer(model: ImageTextPair, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, with weight decay on matrices, and none on norms, biases and the scale."""
    groups = []
    for decay, matrices in ((weight_decay, True), (0.0, False)):
        chosen = [(name, p) for name, p in model.named_parameters() if (p.ndim > 1) == matrices]
        names, parameters = [name for name, _ in chosen], [p for _, p in chosen]
        groups.append({"names": names, "params": parameters, "lr_factor": 1.0, "weight_decay": decay})
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, eps=EPS, fused=True)


def warm_cosine_lr(epoch: int, *, base_lr: float, max_epochs: int, warmup_epochs: int) -> float:
    """The learning rate of an epoch: linear warm-up, then a cosine down to a hundredth of `base_lr`.

    >>> [round(warm_cosine_lr(epoch, base_lr=1.0, max_epochs=4, warmup_epochs=1), 3) for epoch in (1, 2, 3, 4)]
    [0.5, 1.0, 0.505, 0.01]

    Args:
        epoch: 1 to `max_epochs`.
        base_lr: the largest learning rate.
        max_epochs: number of epochs.
        warmup_epochs: how many of these warm up.
    """
    if epoch <= warmup_epochs:
        return base_lr * epoch / (warmup_epochs + 1)
    share = (epoch - warmup_epochs - 1) / max(1, max_epochs - warmup_epochs - 1)
    return base_lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))

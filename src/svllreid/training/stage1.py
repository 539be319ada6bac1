"""Stage 1: learn one prompt per identity, both encoders frozen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from svllreid.losses.simclr import simclr_loss
from svllreid.losses.supcon import supcon_loss
from svllreid.models.heads import ProjectionHead
from svllreid.models.reid import SVLLReID
from svllreid.types import StepResult


class Stage1Task(nn.Module):
    """Cached image features in, loss of the prompts out.

    Args:
        model: its prompts are trained; every other parameter is frozen here.
        augment: prompts (U, 77, T) and a generator to augmented prompts; None leaves self-supervision out.
        ssl_weight: weight of language self-supervision.
        train_head: train `text_mlp` too.
    Source: Wang et al. 2025, arXiv:2407.20647, stage 1.
    """

    def __init__(
        self,
        model: SVLLReID,
        *,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None,
        ssl_weight: float,
        train_head: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.augment = augment
        self.ssl_weight = ssl_weight
        self.encode: Callable[[Tensor], Tensor] = model.encode_prompts  # or the same, compiled
        self.trained = dict(model.stage1_parameters(train_head=train_head))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for parameter in self.trained.values():
            parameter.requires_grad_(True)

    def forward(self, image_features: Tensor, labels: Tensor, generator: torch.Generator) -> StepResult:
        """Losses of (B, E) image features with (B,) labels; each distinct identity's text is encoded once."""
        identities, column = labels.unique(return_inverse=True)
        prompts = self.model.prompt_learner(identities)  # (U, 77, T)
        augmented = [] if self.augment is None else [self.augment(prompts, generator) for _ in range(2)]
        encoded = self.encode(torch.cat([prompts, *augmented])).split(len(identities))
        text_features = encoded[0][column]  # (B, E)
        terms = {
            "loss_i2t": supcon_loss(image_features, text_features, labels, labels),
            "loss_t2i": supcon_loss(text_features, image_features, labels, labels),
        }
        loss = terms["loss_i2t"] + terms["loss_t2i"]
        if self.augment is not None:
            # A single row has nothing to contrast, and BatchNorm none to normalise by.
            rows = len(identities) if len(identities) > 1 else 0
            augmented1, augmented2 = (self._project(text[:rows]) for text in encoded[1:])
            terms["loss_ssl"] = simclr_loss(augmented1, augmented2, identities=identities[:rows])
            loss = loss + self.ssl_weight * terms["loss_ssl"]
        return StepResult(loss, {name: term.detach() for name, term in terms.items()}, len(labels))

    def _project(self, text: Tensor) -> Tensor:
        """Head of (U, E) text features; no rows give no rows, since BatchNorm cannot average over an empty batch.

        The empty result still depends on the text and on the head's parameters, so that this process takes part in
        every exchange of gradients.
        """
        head: ProjectionHead = self.model.text_mlp
        if len(text):
            return head(text)
        anchor = text.sum() + torch.stack([parameter.sum() for parameter in head.parameters()]).sum()
        return text.new_zeros(0, head.layer3.out_features) + 0 * anchor

"""Stage 2: train the image encoder against the frozen prompts (or, without text, against identities alone)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svllreid.losses.identity import identity_loss
from svllreid.losses.triplet import triplet_loss
from svllreid.models.reid import SVLLReID
from svllreid.types import Batch, StepResult


@dataclass(frozen=True)
class LossWeights:
    """Factors of stage 2's losses."""

    identity: float
    triplet: float
    i2t: float
    ssl: float


class Stage2Task(nn.Module):
    """A P x K batch in, loss of the image encoder out.

    Args:
        model: everything its `stage2_parameters` names is trained.
        weights: factors of the losses.
        margin: of the triplet loss; None selects the soft margin.
        smooth: smooth the labels of the identity and image-to-text losses.
        use_ssl: with self-supervision on the batch's two augmented copies.
        frozen_blocks: first blocks of the image encoder that are not trained.
    Source: Wang et al. 2025, arXiv:2407.20647, stage 2.
    """

    text_features: Tensor | None

    def __init__(
        self,
        model: SVLLReID,
        *,
        weights: LossWeights,
        margin: float | None,
        smooth: bool,
        use_ssl: bool,
        frozen_blocks: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.weights = weights
        self.margin = margin
        self.smooth = smooth
        self.use_ssl = use_ssl
        text_features = model.encode_all_text() if hasattr(model, "text_encoder") else None
        self.register_buffer("text_features", text_features, persistent=False)
        self.trained = dict(model.stage2_parameters(frozen_blocks=frozen_blocks))
        for name, parameter in model.named_parameters():
            # text_mlp is listed, as published, and gets no gradient: so no process waits for one.
            parameter.requires_grad_(name in self.trained and not name.startswith("text_mlp."))

    def forward(self, batch: Batch) -> StepResult:
        """Losses of a batch; augmented1 and augmented2 are needed where self-supervision is on."""
        augmented: tuple[Tensor, ...] = ()
        if self.use_ssl:
            if batch.augmented1 is None or batch.augmented2 is None:
                raise ValueError("self-supervision needs batches with augmented1 and augmented2")
            augmented = (batch.augmented1, batch.augmented2)
        features, finals = self.model.encode_augmented(batch.images, augmented, batch.camids, batch.viewids)
        scores = self.model.classify(features)
        labels = batch.labels
        terms = {
            "loss_id": torch.stack([identity_loss(score, labels, self.smooth) for score in scores]).sum(),
            "loss_triplet": torch.stack([triplet_loss(f, labels, self.margin) for f in features]).sum(),
        }
        loss = self.weights.identity * terms["loss_id"] + self.weights.triplet * terms["loss_triplet"]
        if self.text_features is not None:
            logits = features.proj @ self.text_features.to(features.proj.dtype).T  # (B, N)
            terms["loss_i2t"] = identity_loss(logits, labels, self.smooth)
            loss = loss + self.weights.i2t * terms["loss_i2t"]
        if self.use_ssl:
            heads = [self.model.image_mlp(final) for final in finals]
            terms["loss_ssl"] = self.model.ssl_loss(*heads, *finals)
            loss = loss + self.weights.ssl * terms["loss_ssl"]
        return StepResult(loss, {name: term.detach() for name, term in terms.items()}, len(labels))

"""Kinds of vision self-supervision in stage 2: a new one is a head, a loss, and a line of SELF_SUPERVISION."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from svllreid.losses.simclr import simclr_loss
from svllreid.losses.simsiam import simsiam_loss
from svllreid.models.heads import PredictionHead, ProjectionHead

SIMSIAM_HIDDEN_DIM = 512


@dataclass(frozen=True)
class SelfSupervision:
    """A kind of self-supervision on two augmented copies of each image.

    Args:
        head: makes `image_mlp` from the width of the features, the hidden width and the output width.
        loss: the loss, a scalar, of four tensors: the head's outputs for the two copies, (B, out) each, and the
            features of the two copies before the head, (B, W) each.
    """

    head: Callable[[int, int, int], nn.Module]
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _projection(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Module:
    head = ProjectionHead(in_dim, hidden_dim, out_dim)
    head.init_weights()
    return head


SELF_SUPERVISION = {
    "SIMCLR": SelfSupervision(_projection, lambda head1, head2, final1, final2: simclr_loss(head1, head2)),
    # The predictor leads back to the features' own width, and its hidden width is the published one, so that neither
    # of the two widths given is used.
    "SIMSIAM": SelfSupervision(
        lambda in_dim, hidden_dim, out_dim: PredictionHead(in_dim, SIMSIAM_HIDDEN_DIM), simsiam_loss
    ),
}

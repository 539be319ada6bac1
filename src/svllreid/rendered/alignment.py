"""How well images and texts of one space go together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Probe(NamedTuple):
    """Accuracy of choosing the right text of a few.

    accuracy: mean over the texts of the share of their images that choose them.
    chance: 1 / number of texts.
    images: how many were asked.
    """

    accuracy: float
    chance: float
    images: int


def retrieval_rank1(image_feats: Tensor, text_feats: Tensor, among: int = 100) -> float:
    """Share of images whose own text is the most similar one among so many.

    Args:
        image_feats, text_feats: (n, E) float; row i of both belongs together.
        among: texts to choose from; rows are taken in consecutive groups of so many, a remainder is left out.
    Raises: ValueError: fewer rows than one group.
    """
    if len(image_feats) < among:
        raise ValueError(f"{len(image_feats)} rows are fewer than a group of {among}")
    whole = len(image_feats) // among * among
    images, texts = (F.normalize(feats[:whole]).unflatten(0, (-1, among)) for feats in (image_feats, text_feats))
    nearest = (images @ texts.mT).argmax(dim=2)  # (groups, among)
    return (nearest == torch.arange(among, device=nearest.device)).double().mean().item()


def probe(image_feats: Tensor, text_feats: Tensor, labels: Tensor) -> Probe:
    """Zero-shot classification: the most similar text is the answer.

    Args:
        image_feats: (n, E); text_feats: (C, E), one text a class.
        labels: (n,) int64, the right text; -1 where none is: that image is not asked.
    Raises: ValueError: a class without an image.
    """
    asked = labels >= 0
    answers = (F.normalize(image_feats) @ F.normalize(text_feats).T).argmax(dim=1).to(labels.device)
    counts = torch.bincount(labels[asked], minlength=len(text_feats))
    right = torch.bincount(labels[asked & (answers == labels)], minlength=len(text_feats))
    if (counts == 0).any():
        raise ValueError(f"no image of class {int((counts == 0).nonzero()[0])}")
    return Probe((right / counts).double().mean().item(), 1 / len(text_feats), int(asked.sum()))

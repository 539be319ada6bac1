"""How well the features of images and texts match in their joint space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Probe(NamedTuple):
    """The accuracy of zero-shot classification.

    Args:
        accuracy: mean over the classes of the share of their images that are classified correctly.
        chance: accuracy of a random choice, 1 / number of classes.
        images: number of images that were classified.
    """

    accuracy: float
    chance: float
    images: int


def retrieval_rank1(image_feats: Tensor, text_feats: Tensor, among: int = 100) -> float:
    """The share of images for which their own text is the most similar of several texts.

    >>> retrieval_rank1(torch.eye(4), torch.eye(4)[[0, 1, 3, 2]], among=2)
    0.5

    Args:
        image_feats, text_feats: (n, E) float; row i of the one belongs to row i of the other.
        among: how many texts each image is compared with. Rows are taken in consecutive groups of this size; those left
            over at the end are not used.
    Raises: ValueError: there are fewer rows than one group has.
    """
    if len(image_feats) < among:
        raise ValueError(f"{len(image_feats)} rows are fewer than a group of {among}")
    whole = len(image_feats) // among * among
    images, texts = (F.normalize(feats[:whole]).unflatten(0, (-1, among)) for feats in (image_feats, text_feats))
    nearest = (images @ texts.mT).argmax(dim=2)  # (groups, among)
    return (nearest == torch.arange(among, device=nearest.device)).double().mean().item()


def probe(image_feats: Tensor, text_feats: Tensor, labels: Tensor) -> Probe:
    """Zero-shot classification: the class of an image is that of the most similar text.

    Args:
        image_feats: (n, E) float.
        text_feats: (C, E) float, a text for each class.
        labels: (n,) int64, the right class; -1 for an image that has none and is left out.
    Raises: ValueError: a class has no image.
    """
    labelled = labels >= 0
    answers = (F.normalize(image_feats) @ F.normalize(text_feats).T).argmax(dim=1).to(labels.device)
    counts = torch.bincount(labels[labelled], minlength=len(text_feats))
    right = torch.bincount(labels[labelled & (answers == labels)], minlength=len(text_feats))
    if (counts == 0).any():
        raise ValueError(f"no image of class {int((counts == 0).nonzero()[0])}")
    return Probe((right / counts).double().mean().item(), 1 / len(text_feats), int(labelled.sum()))

"""What a pretrained pair of towers knows, measured on rendered people that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from svllreid.data.transforms import normalised, per_channel
from svllreid.evaluation.ranking.measures import evaluate_features
from svllreid.rendered.alignment import probe, retrieval_rank1
from svllreid.rendered.crowd import RenderedCrowd
from svllreid.rendered.description import caption, describe_person
from svllreid.rendered.pair import ImageTextPair
from svllreid.rendered.probes import QUESTIONS

MEAN = STD = (0.5, 0.5, 0.5)  # what the configurations of `tiny` normalise by
CAPTIONS = 51  # first word of the captions' random streams, in training and here
_BLOCK = 256  # images that are embedded at a time


@torch.inference_mode()
def embed_images(model: ImageTextPair, images: Tensor) -> tuple[Tensor, Tensor]:
    """The features of images: those to compare with texts, and those to compare with other images.

    Args:
        model: both towers; put into evaluation mode.
        images: (n, H, W, 3) uint8.
    Returns: (n, E) in the joint space, and (n, W + E) L2-normalised as re-identification uses them; on the CPU.
    """
    model.eval()
    mean, std = per_channel(MEAN), per_channel(STD)
    parts = []
    for block in images.split(_BLOCK):
        pixels = normalised(block.movedim(3, 1), mean, std)  # (b, 3, H, W)
        parts.append(model.image_encoder(pixels.to(model.logit_scale.device)))
    proj, final = (torch.cat([getattr(part, name) for part in parts]).cpu().float() for name in ("proj", "final"))
    return proj, F.normalize(torch.cat([final, proj], dim=1))


@torch.inference_mode()
def embed_texts(model: ImageTextPair, texts: Sequence[str]) -> Tensor:
    """The features (n, E) of n texts in the joint space, on the CPU; the model is put into evaluation mode."""
    token_ids = open_clip.tokenize(list(texts)).to(model.logit_scale.device)
    return model.eval().encode_text(token_ids).cpu().float()


def score(model: ImageTextPair, test: RenderedCrowd) -> dict[str, Any]:
    """How well images and texts of people match, and images of one person each other; all as fractions.

    Args:
        model: both towers.
        test: people who were not trained on, with two images of each.
    Returns: `retrieval_full` and `retrieval_wordings` (rank-1 of the own description, or own caption, among 100),
        `reid_mAP` and `reid_rank1` (the first image of each person searched among the second ones), `probes` (zero-shot
        classification by each of QUESTIONS, see `Probe`) and `probe_mean`, their mean accuracy.
    """
    people = test.crowd.everybody()
    numbers = np.arange(len(people))
    first, second = (torch.from_numpy(test.images(numbers, np.full(len(people), shot))) for shot in (0, 1))
    proj, q_feats = embed_images(model, first)
    _, g_feats = embed_images(model, second)
    rng = np.random.default_rng([CAPTIONS, test.crowd.seed])
    captions = embed_texts(model, [caption(person, rng) for person in people])
    descriptions = embed_texts(model, [describe_person(person) for person in people])
    reid = evaluate_features(q_feats, g_feats, numbers, numbers)
    probes = {}
    for question in QUESTIONS:
        labels = torch.tensor([question.label(person) for person in people])
        probes[question.name] = probe(proj, embed_texts(model, question.prompts), labels)._asdict()
    return {
        "retrieval_full": retrieval_rank1(proj, descriptions),
        "retrieval_wordings": retrieval_rank1(proj, captions),
        "reid_mAP": reid.mean_ap,
        "reid_rank1": float(reid.cmc[0]),
        "probes": probes,
        "probe_mean": float(np.mean([result["accuracy"] for result in probes.values()])),
    }

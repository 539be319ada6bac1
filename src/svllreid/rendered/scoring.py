"""What a pretrained pair of towers knows, measured on rendered people that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from svllreid.data.transforms import normalised, per_channel
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.embedding.loop import embed
from svllreid.evaluation.ranking.measures import evaluate_features
from svllreid.models.digest import weights_digest
from svllreid.rendered.alignment import probe, retrieval_rank1
from svllreid.rendered.crowd import RenderedCrowd
from svllreid.rendered.description import caption, describe_person
from svllreid.rendered.pair import ImageTextPair
from svllreid.rendered.probes import QUESTIONS
from svllreid.types import UNKNOWN, Batch

MEAN = STD = (0.5, 0.5, 0.5)  # what the configurations of `tiny` normalise by
CAPTIONS = 51  # first word of the captions' random streams, in training and here
_BLOCK = 256  # images that are embedded at a time


class PairEmbedder:
    """The image tower of a pair as an `Embedder`; its features are `final` and `proj` side by side, as they are.

    Args:
        model: both towers; put into evaluation mode.
        size: height and width of the images.
    """

    def __init__(self, model: ImageTextPair, size: tuple[int, int]) -> None:
        self.model, self.size, self.device = model.eval(), size, model.logit_scale.device
        self.dim = model.image_encoder.final_dim + model.image_encoder.proj_dim

    def __call__(self, images: Tensor, camids: Tensor, viewids: Tensor) -> Tensor:
        """Features (B, W + E); cameras and viewpoints are not used."""
        features = self.model.image_encoder(images)
        return torch.cat([features.final, features.proj], dim=1).float()

    @property
    def spec(self) -> EmbeddingSpec:
        """The record of the tower."""
        return EmbeddingSpec(
            weights=weights_digest(self.model, ("image_encoder.",)),
            dim=self.dim,
            image_size=self.size,
            pixel_mean=MEAN,
            pixel_std=STD,
            neck="before",
            flip=False,
            normalized=False,
            sie_camera=False,
            sie_view=False,
            sie_coe=0.0,
            sie_table="",
            precision="32",
        )


def embed_images(model: ImageTextPair, images: Tensor) -> tuple[Tensor, Tensor]:
    """The features of images: those to compare with texts, and those to compare with other images.

    Args:
        model: both towers; put into evaluation mode.
        images: (n, H, W, 3) uint8.
    Returns: (n, E) in the joint space, and (n, W + E) L2-normalised as re-identification uses them; on the CPU.
    """
    embedder = PairEmbedder(model, (images.shape[1], images.shape[2]))
    vectors = embed(embedder, _batches(images)).vectors
    return vectors[:, model.image_encoder.final_dim :], F.normalize(vectors)


def _batches(images: Tensor) -> Iterator[Batch]:
    """Images (n, H, W, 3) uint8, normalised, some at a time."""
    mean, std = per_channel(MEAN), per_channel(STD)
    for block in images.split(_BLOCK):
        unknown = torch.full((len(block),), UNKNOWN)
        yield Batch(normalised(block.movedim(3, 1), mean, std), unknown, unknown, unknown)


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

"""The ReID model: an image encoder with necks and classifiers, learned prompts with a frozen text encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from svllreid.errors import ConfigError
from svllreid.models.clip import ClipTowers
from svllreid.models.heads import ProjectionHead
from svllreid.models.prompts import PromptLearner
from svllreid.models.self_supervision import SELF_SUPERVISION
from svllreid.models.towers import ImageFeatures, ResNetEncoder, TextEncoder, image_encoder
from svllreid.types import SideRows


class Scores(NamedTuple):
    """Identity logits (B, N) of the two classifiers."""

    final: Tensor
    proj: Tensor


class SVLLReID(nn.Module):
    """SVLL-ReID's network; its state dict has the published keys.

    Args:
        clip: towers with their weights.
        num_classes: training identities (N).
        num_cameras, num_views: rows of the side information table; ids given to the model are rows of it, while
            `side_rows` says which camera and view of the dataset each row belongs to.
        image_size: height and width.
        stride: step of the patch embedding (ViT).
        sie_camera, sie_view: learn side information per camera, per viewpoint, or per pair.
        sie_coe: factor of the side information.
        noun: the prompts' noun.
        use_text: with prompts and text encoder; false is the one-stage baseline.
        language_head: with `text_mlp` for stage 1's self-supervision.
        vision_head: a name of SELF_SUPERVISION for stage 2's self-supervision, None without.
        ssl_hidden_dim, ssl_out_dim: widths of the SimCLR heads.
    Raises: ConfigError: side information asked of a ResNet.
    Source: Wang et al. 2025, arXiv:2407.20647; Li et al. 2023, arXiv:2211.13977.
    """

    def __init__(
        self,
        clip: ClipTowers,
        *,
        num_classes: int,
        num_cameras: int,
        num_views: int,
        image_size: tuple[int, int],
        stride: tuple[int, int],
        sie_camera: bool,
        sie_view: bool,
        sie_coe: float,
        noun: str,
        use_text: bool,
        language_head: bool,
        vision_head: str | None,
        ssl_hidden_dim: int,
        ssl_out_dim: int,
    ) -> None:
        super().__init__()
        self.micro_batch = 0
        self.image_encoder = image_encoder(clip, image_size, stride)
        self.has_batchnorm = isinstance(self.image_encoder, ResNetEncoder)
        if self.has_batchnorm and (sie_camera or sie_view):
            raise ConfigError(
                "side information is added to the CLS token, and a ResNet has none; switch it off",
                settings=("side information",),
            )
        self.num_classes, self.num_cameras, self.num_views = num_classes, num_cameras, num_views
        self.side_rows = SideRows.counted(num_cameras, num_views)  # or as the training set numbers them
        self.sie_camera, self.sie_view, self.sie_coe = sie_camera, sie_view, sie_coe
        final_dim, proj_dim = self.image_encoder.final_dim, self.image_encoder.proj_dim
        if sie_camera or sie_view:
            rows = (num_cameras if sie_camera else 1) * (num_views if sie_view else 1)
            self.cv_embed = nn.Parameter(torch.randn(rows, final_dim) * 0.02)
        self.bottleneck, self.bottleneck_proj = _neck(final_dim), _neck(proj_dim)
        self.classifier = _classifier(final_dim, num_classes)
        self.classifier_proj = _classifier(proj_dim, num_classes)
        if vision_head is not None:
            kind = SELF_SUPERVISION[vision_head]
            self.image_mlp, self.ssl_loss = kind.head(final_dim, ssl_hidden_dim, ssl_out_dim), kind.loss
        if use_text:
            self.prompt_learner = PromptLearner(num_classes, clip.text.token_embedding, noun)
            self.text_encoder = TextEncoder(clip)
            if language_head:
                self.text_mlp = ProjectionHead(proj_dim, ssl_hidden_dim, ssl_out_dim)

    def side_information(self, camids: Tensor | None, viewids: Tensor | None) -> Tensor | None:
        """The side information (B, W) that is added to the CLS tokens.

        It is zero where camera or view is unknown (-1), and None where the model has no side information.
        """
        if not (self.sie_camera or self.sie_view) or (camids is None and viewids is None):
            return None
        used = []
        for on, ids, count in ((self.sie_camera, camids, self.num_cameras), (self.sie_view, viewids, self.num_views)):
            if on and ids is None:
                raise ValueError("side information needs camids where sie_camera and viewids where sie_view is on")
            if on and ids is not None:
                used.append((ids, count))
        rows = torch.zeros_like(used[0][0])
        known = torch.ones_like(rows, dtype=torch.bool)
        for ids, count in used:
            rows, known = rows * count + ids, known & (ids >= 0)
        return self.sie_coe * self.cv_embed[torch.where(known, rows, 0)] * known[:, None]

    def encode_image(
        self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
    ) -> ImageFeatures:
        """Features of (B, 3, H, W) images; without ids no side information is added."""
        return self._encode(images, self.side_information(camids, viewids))

    def _encode(self, images: Tensor, added: Tensor | None) -> ImageFeatures:
        """Features of all images at once, or in training of `micro_batch` images at a time.

        The latter keeps no activations, and computes each part again in the backward pass.
        """
        if not self.micro_batch or len(images) <= self.micro_batch or not torch.is_grad_enabled():
            return self.image_encoder(images, added)
        sides = [None] * len(images) if added is None else added.split(self.micro_batch)
        parts = [
            checkpoint(self.image_encoder, part, side, use_reentrant=False)
            for part, side in zip(images.split(self.micro_batch), sides, strict=False)
        ]
        return ImageFeatures(*(torch.cat(features) for features in zip(*parts, strict=True)))

    def encode_augmented(
        self, images: Tensor, augmented: tuple[Tensor, ...], camids: Tensor, viewids: Tensor
    ) -> tuple[ImageFeatures, list[Tensor]]:
        """Features of the images with side information, and `final` of each augmented copy without it.

        A ViT encodes all in one pass. A ResNet encodes each copy by itself, since its BatchNorm depends on the batch.
        """
        if self.has_batchnorm or not augmented:
            return self.encode_image(images, camids, viewids), [self.encode_image(copy).final for copy in augmented]
        added = self.side_information(camids, viewids)
        if added is not None:
            added = torch.cat([added, added.new_zeros(len(augmented) * len(images), added.shape[1])])
        every = self._encode(torch.cat([images, *augmented]), added)
        count = len(images)
        return ImageFeatures(*(feature[:count] for feature in every)), list(every.final[count:].split(count))

    def classify(self, features: ImageFeatures) -> Scores:
        """Identity logits, computed from the features after the BNNecks."""
        return Scores(
            self.classifier(self.bottleneck(features.final)), self.classifier_proj(self.bottleneck_proj(features.proj))
        )

    def embed(
        self,
        images: Tensor,
        camids: Tensor | None = None,
        viewids: Tensor | None = None,
        *,
        after_neck: bool = False,
        normalize: bool = True,
        flip: bool = False,
    ) -> Tensor:
        """The feature that is compared at test, (B, final + proj).

        Args:
            images: (B, 3, H, W), normalised.
            camids, viewids: (B,) for side information; None leaves it out.
            after_neck: take `final` and `proj` after their BNNecks instead of before.
            normalize: scale each feature to unit length.
            flip: average each feature with that of the mirrored image first.
        """
        if flip:
            sides = (images, images.flip(3))
            both = (self.embed(side, camids, viewids, after_neck=after_neck, normalize=False) for side in sides)
            joined = torch.stack(list(both)).mean(dim=0)
            return F.normalize(joined, dim=1) if normalize else joined
        features = self.encode_image(images, camids, viewids)
        pair = (features.final, features.proj)
        if after_neck:
            pair = (self.bottleneck(features.final), self.bottleneck_proj(features.proj))
        joined = torch.cat(pair, dim=1).float()
        return F.normalize(joined, dim=1) if normalize else joined

    def encode_prompts(self, prompts: Tensor) -> Tensor:
        """Text features (U, E) of prompts (U, 77, T)."""
        return self.text_encoder(prompts, self.prompt_learner.length)

    @torch.no_grad()
    def encode_all_text(self, batch: int = 256) -> Tensor:
        """Text features (N, E) of every identity's prompt."""
        labels = torch.arange(self.num_classes, device=self.prompt_learner.cls_ctx.device)
        return torch.cat([self.encode_prompts(self.prompt_learner(part)) for part in labels.split(batch)])

    def stage1_parameters(self, *, train_head: bool) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that stage 1 trains: the prompts, and with `train_head` also `text_mlp`."""
        for name, parameter in self.named_parameters():
            if name == "prompt_learner.cls_ctx" or (train_head and name.startswith("text_mlp.")):
                yield name, parameter

    def stage2_parameters(self, *, frozen_blocks: int) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters in stage 2's optimiser: all but prompts, text encoder and the necks' biases.

        `text_mlp` is among them, as published, though no gradient reaches it.

        Args:
            frozen_blocks: how many first blocks of the image encoder are left out, with the patch embedding.
        """
        frozen = ["prompt_learner.", "text_encoder."]
        if frozen_blocks:
            frozen += [f"image_encoder.{name}" for name in _BELOW_BLOCKS]
            frozen += [f"image_encoder.transformer.resblocks.{number}." for number in range(frozen_blocks)]
        for name, parameter in self.named_parameters():
            if not name.startswith(tuple(frozen)) and name not in _FROZEN:
                yield name, parameter


_BELOW_BLOCKS = ("conv1.", "class_embedding", "positional_embedding", "ln_pre.")
_FROZEN = ("bottleneck.bias", "bottleneck_proj.bias")


def _neck(dim: int) -> nn.BatchNorm1d:
    neck = nn.BatchNorm1d(dim)
    nn.init.ones_(neck.weight)
    nn.init.zeros_(neck.bias)
    return neck


def _classifier(dim: int, num_classes: int) -> nn.Linear:
    classifier = nn.Linear(dim, num_classes, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier

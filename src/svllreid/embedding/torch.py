"""A PyTorch network as an `Embedder`: for testing, evaluation in training, stage 1's cache, and `Encoder`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from svllreid.data.transforms import TestTransform
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.models.digest import weights_digest
from svllreid.models.reid import SVLLReID

_IMAGE_ENCODER, _NECKS = ("image_encoder.",), ("bottleneck.", "bottleneck_proj.")
_HALF = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


class TorchEmbedder:
    """A trained network with every setting that its features depend on.

    Args:
        model: the network; it is moved to the device and set to eval mode.
        transform: the transform of the images, whose size and normalisation belong to the record `spec`.
        device: the device that computes.
        precision: `32`, `tf32` (GPUs), `16-mixed` (GPUs) or `bf16-mixed`.
        neck: which features, one of `embedding.contract.NECKS`.
        normalize: whether features are divided by their length.
        flip: whether a feature is the mean of those of the image and its mirror image.
        side_information: whether to add the learned vectors of cameras and viewpoints, if the model has any.
    """

    def __init__(
        self,
        model: SVLLReID,
        transform: TestTransform,
        device: torch.device,
        *,
        precision: str = "32",
        neck: str = "before",
        normalize: bool = True,
        flip: bool = False,
        side_information: bool = True,
    ) -> None:
        self.model = model.to(device).eval()
        self.transform, self.device, self.precision = transform, device, precision
        self.neck, self.normalize, self.flip = neck, normalize, flip
        self.side_information = side_information and (model.sie_camera or model.sie_view)
        encoder = model.image_encoder
        self.dim = encoder.proj_dim if neck == "joint" else encoder.final_dim + encoder.proj_dim

    def __call__(self, images: Tensor, camids: Tensor, viewids: Tensor) -> Tensor:
        """Features (B, D) float32.

        Args:
            images: (B, 3, H, W) on the device: uint8 as `transform.resize` returns them, or float, normalised.
            camids, viewids: (B,) int64, rows of the side information; -1 where unknown.
        """
        if images.dtype == torch.uint8:
            images = self.transform.normalise(images)
        with self._arithmetic():
            return self.features(images, camids, viewids)

    def features(self, images: Tensor, camids: Tensor | None, viewids: Tensor | None) -> Tensor:
        """As a call, in the arithmetic of the surrounding code; None where no side information is added."""
        ids = (camids, viewids) if self.side_information else (None, None)
        if self.neck != "joint":
            after = self.neck == "after"
            return self.model.embed(images, *ids, after_neck=after, normalize=self.normalize, flip=self.flip)
        sides = (images, images.flip(3)) if self.flip else (images,)
        features = torch.stack([self.model.encode_image(side, *ids).proj.float() for side in sides]).mean(dim=0)
        return F.normalize(features, dim=1) if self.normalize else features

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """A context that computes in the precision; afterwards PyTorch's settings are as before."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        half = _HALF.get(self.precision)
        try:
            with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    @cached_property
    def spec(self) -> EmbeddingSpec:
        """The record of the model and settings that make the features.

        Its first use computes the digest of the weights. Where these are sharded, all processes must use it.
        """
        model, used = self.model, self.side_information
        return EmbeddingSpec(
            weights=weights_digest(model, _IMAGE_ENCODER if self.neck == "joint" else _IMAGE_ENCODER + _NECKS),
            dim=self.dim,
            image_size=(self.transform.size[0], self.transform.size[1]),
            pixel_mean=tuple(self.transform.mean),
            pixel_std=tuple(self.transform.std),
            neck=self.neck,
            flip=self.flip,
            normalized=self.normalize,
            sie_camera=used and model.sie_camera,
            sie_view=used and model.sie_view,
            sie_coe=float(model.sie_coe) if used else 0.0,
            sie_table=weights_digest(model, ("cv_embed",)) if used else "",
            precision=self.precision,
        )

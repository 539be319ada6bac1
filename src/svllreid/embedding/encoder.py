"""Images to features, for search, tracking and export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from svllreid.data.dataset import open_image
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.embedding.torch import TorchEmbedder
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN

AnyImage = str | Path | Image.Image | np.ndarray


class FeatureEncoder:
    """A trained model that turns images into features.

    Args:
        embedder: the model with the settings that its features depend on.
        batch_size: images at once.
    """

    def __init__(self, embedder: TorchEmbedder, *, batch_size: int = 64) -> None:
        self.embedder, self.batch_size = embedder, batch_size
        self.model, self.transform, self.device = embedder.model, embedder.transform, embedder.device

    @property
    def spec(self) -> EmbeddingSpec:
        """Which model and settings the features are of: keep it with them, and compare only features of one spec."""
        return self.embedder.spec

    @torch.inference_mode()
    def encode(
        self,
        images: Sequence[AnyImage],
        camids: Sequence[int] | None = None,
        viewids: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Features (n, D) float32, L2-normalised unless the configuration says TEST.FEAT_NORM no.

        They are those that `svllreid test` compares, by Euclidean distance: see `svllreid.distances`.

        Args:
            images: paths, PIL images or uint8 arrays (H, W, 3).
            camids, viewids: zero-based camera and viewpoint of each image, -1 where unknown; None: all unknown.
        Raises: DatasetError: an image that cannot be read, ids that do not fit the images or the trained table.
        """
        ids = []
        for name, given, count in (
            ("camids", camids, self.model.num_cameras),
            ("viewids", viewids, self.model.num_views),
        ):
            values = [UNKNOWN] * len(images) if given is None else [int(value) for value in given]
            if len(values) != len(images):
                raise DatasetError(f"{len(images)} images but {len(values)} {name}; give one for each image")
            used = self.model.sie_camera if name == "camids" else self.model.sie_view
            beyond = [value for value in values if used and not UNKNOWN <= value < count]
            if beyond:
                raise DatasetError(
                    f"{name} {beyond[0]} is beyond the {count} the model was trained with; give -1 for unknown"
                )
            ids.append(torch.tensor(values, dtype=torch.int64, device=self.device))
        parts = []
        for start in range(0, len(images), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            pixels = torch.stack([self.transform(as_pil(image)) for image in images[chosen]]).to(self.device)
            parts.append(self.embedder(pixels, ids[0][chosen], ids[1][chosen]).cpu())
        if not parts:
            return np.empty((0, self.embedder.dim), np.float32)
        return torch.cat(parts).numpy()


def as_pil(image: AnyImage) -> Image.Image:
    """A path, PIL image or uint8 array as an RGB image; DatasetError where it is none of these."""
    if isinstance(image, str | Path):
        return open_image(Path(image))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DatasetError(f"an array image is uint8 (H, W, 3), not {image.dtype} {image.shape}; convert it")
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    raise DatasetError(f"an image is a path, a PIL image or a uint8 array, not a {type(image).__name__}")

"""Images to features, for search, tracking and export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from svllreid.data.dataset import open_image
from svllreid.data.readers.layout import first_three
from svllreid.data.transforms import TestTransform
from svllreid.errors import DatasetError
from svllreid.models.reid import SVLLReID
from svllreid.types import UNKNOWN

AnyImage = str | Path | Image.Image | np.ndarray


class FeatureEncoder:
    """A trained model that turns images into features.

    Args:
        model: the network; moved to the device and set to eval mode.
        transform: image to tensor.
        device: where to compute.
        after_neck: features behind the BNNecks instead of before.
        flip: with the features of the mirrored images added.
        batch_size: images at once.
    """

    def __init__(
        self,
        model: SVLLReID,
        transform: TestTransform,
        device: torch.device,
        *,
        after_neck: bool = False,
        flip: bool = False,
        batch_size: int = 64,
    ) -> None:
        self.model = model.to(device).eval()
        self.transform, self.device = transform, device
        self.after_neck, self.flip, self.batch_size = after_neck, flip, batch_size

    @torch.inference_mode()
    def encode(
        self,
        images: Sequence[AnyImage],
        camids: Sequence[int] | None = None,
        viewids: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Features (n, D) float32, L2-normalised.

        Args:
            images: paths, PIL images or uint8 arrays (H, W, 3).
            camids, viewids: camera and viewpoint of each image, numbered as in the training set (counted from 0), -1
                where unknown; None: all unknown.
        Raises: DatasetError: an image that cannot be read, ids that do not fit the images or the trained table.
        """
        ids = []
        side_rows = self.model.side_rows
        for name, given, known, row in (
            ("camids", camids, side_rows.cameras, side_rows.camera),
            ("viewids", viewids, side_rows.views, side_rows.view),
        ):
            values = [UNKNOWN] * len(images) if given is None else [int(value) for value in given]
            if len(values) != len(images):
                raise DatasetError(f"{len(images)} images but {len(values)} {name}; give one for each image")
            used = self.model.sie_camera if name == "camids" else self.model.sie_view
            rows = [row(value) for value in values]
            strange = [v for v, at in zip(values, rows, strict=True) if at == UNKNOWN and v != UNKNOWN]
            if used and strange:
                raise DatasetError(
                    f"{name} {strange[0]} is none of those the model was trained with ({first_three(known)}); give -1 "
                    "for unknown"
                )
            ids.append(torch.tensor(rows, dtype=torch.int64, device=self.device))
        parts = []
        for start in range(0, len(images), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            pixels = torch.stack([self.transform(as_pil(image)) for image in images[chosen]]).to(self.device)
            which = {"after_neck": self.after_neck, "flip": self.flip}
            parts.append(self.model.embed(pixels, ids[0][chosen], ids[1][chosen], **which).cpu())
        if not parts:
            return np.empty((0, self.model.image_encoder.final_dim + self.model.image_encoder.proj_dim), np.float32)
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

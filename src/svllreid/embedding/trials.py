"""Images that PyTorch and an exported model both embed, to compare their features and to calibrate int8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from svllreid.embedding.contract import Embedder, EmbeddingSpec
from svllreid.embedding.exported import CAMERA_ROWS, IMAGES, VIEW_ROWS, inputs_of, pixel_input
from svllreid.types import UNKNOWN, SideRows

RANDOM_IMAGES = 8


@dataclass(frozen=True)
class TrialImages:
    """Images that PyTorch and an exported model both embed.

    Args:
        pixels: (n, 3, H, W) uint8.
        camera_rows, view_rows: (n,) int64, rows of the side information; -1 where unknown.
    """

    pixels: Tensor
    camera_rows: Tensor
    view_rows: Tensor

    @classmethod
    def of(cls, pixels: Tensor, side_rows: SideRows) -> TrialImages:
        """Images with all rows of the side information in turn, the unknown one first."""
        count = torch.arange(len(pixels))
        cameras, views = side_rows.num_cameras + 1, side_rows.num_views + 1
        return cls(pixels, count % cameras + UNKNOWN, count % views + UNKNOWN)

    @classmethod
    def random(cls, size: tuple[int, int], side_rows: SideRows) -> TrialImages:
        """RANDOM_IMAGES images of noise, always the same."""
        noise = np.random.default_rng(0).integers(0, 256, (RANDOM_IMAGES, 3, *size), dtype=np.uint8)
        return cls.of(torch.from_numpy(noise), side_rows)

    def features(self, embedder: Embedder, batch_size: int = RANDOM_IMAGES) -> np.ndarray:
        """The embedder's features (n, D): of the first image alone, then in batches, as the batch size is dynamic."""
        starts = [0, *range(1, len(self.pixels), batch_size), len(self.pixels)]
        parts = []
        for start, end in pairwise(starts):
            images = self._normalised(start, end, embedder.spec)
            with torch.inference_mode():
                parts.append(embedder(images, self.camera_rows[start:end], self.view_rows[start:end]))
        return torch.cat(parts).numpy()

    def inputs(self, spec: EmbeddingSpec, pixels: str) -> Iterator[dict[str, np.ndarray]]:
        """The inputs of an exported model for one image after the other."""
        for row in range(len(self.pixels)):
            image = self._normalised(row, row + 1, spec)
            rows = {CAMERA_ROWS: self.camera_rows, VIEW_ROWS: self.view_rows}
            values = {name: rows[name][row : row + 1].numpy() for name in inputs_of(spec)[1:]}
            yield {IMAGES: pixel_input(image, spec, pixels), **values}

    def _normalised(self, start: int, end: int, spec: EmbeddingSpec) -> Tensor:
        """The images from `start` up to `end`, normalised as the record says."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.pixel_mean, spec.pixel_std))
        return (self.pixels[start:end].float() / 255 - mean) / std

"""The training augmentation for a whole batch at once, on the device that trains."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from svllreid.data.transforms import AUGMENTED_AREA, MIN_AREA, bicubic, normalised, per_channel
from svllreid.types import Batch

# Those of timm's RandomErasing, which TrainTransform uses: the range of the logarithm of a rectangle's aspect ratio,
# and how many rectangles are tried until one fits into the image.
LOG_ASPECT = (math.log(0.3), -math.log(0.3))
ATTEMPTS = 10


class ResizedBatch(NamedTuple):
    """A batch of resized images, which `DeviceAugment` augments. It is a tuple, so that it can be pinned.

    Args:
        images: (B, 3, H, W) uint8.
        labels, camids, viewids: (B,) int64, as in Batch.
        seeds: (B,) int64, the seed of each image's random draws.
    """

    images: Tensor
    labels: Tensor
    camids: Tensor
    viewids: Tensor
    seeds: Tensor


class ResizeOnly:
    """The transform of `TrainDataset` where images are augmented on the device: it only resizes.

    Args:
        size: height and width.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def resize(self, image: Image.Image) -> Tensor:
        """The resized image, (3, H, W) uint8."""
        return bicubic(image, self.size)

    def augment(self, pixels: Tensor, seed: int) -> tuple[Tensor, ...]:
        """The unchanged pixels, and the seed for the device as a tensor."""
        return pixels, torch.tensor(seed)


class DeviceAugment:
    """Augments a whole batch on the device as TrainTransform augments one image.

    The results have the same distribution; they are equal where nothing is random (all probabilities 0 or 1). Flips,
    crops and rectangles are drawn on the CPU with a generator seeded from all images' seeds, so they are the same on
    every device. The noise is drawn on the device and may differ between kinds of devices.

    Args:
        device: receives the batches.
        size, mean, std, flip, padding, erase, max_area, augmented: as those of TrainTransform.
    """

    def __init__(
        self,
        device: torch.device,
        size: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        flip: float = 0.5,
        padding: int = 10,
        erase: float = 0.5,
        max_area: float = 1 / 3,
        augmented: int = 0,
    ) -> None:
        self.device, self.size = device, size
        self.mean, self.std = per_channel(mean).to(device), per_channel(std).to(device)
        self.flip, self.padding, self.erase = flip, padding, erase
        self.areas = [(MIN_AREA, max_area), *[AUGMENTED_AREA] * augmented]
        self.noise = torch.Generator(device)

    def __call__(self, batch: ResizedBatch) -> Batch:
        """The batch on the device, with augmented images and copies (B, 3, H, W) float."""
        seeds = np.random.SeedSequence(batch.seeds.tolist()).generate_state(2, np.uint64) >> 1
        draws = torch.Generator().manual_seed(int(seeds[0]))
        self.noise.manual_seed(int(seeds[1]))
        copies, count = len(self.areas), len(batch.images)
        rows, columns = self._crops(copies * count, draws)
        low, high = torch.tensor(self.areas, dtype=torch.float64).repeat_interleave(count, 0).T  # (copies * B,) each
        erased = self._rectangles(low, high, draws)
        images, *numbers = (value.to(self.device, non_blocking=True) for value in batch[:4])
        rows, columns, *edges = (value.to(self.device, non_blocking=True) for value in (rows, columns, *erased))
        which = torch.arange(count, device=self.device).repeat(copies)[:, None, None]  # (copies * B, 1, 1)
        padded = pad(images, [self.padding] * 4).movedim(1, -1)  # (B, H + 2p, W + 2p, 3)
        varied = padded[which, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)  # (copies * B, 3, H, W)
        varied = self._erase(normalised(varied.contiguous(), self.mean, self.std), *edges)
        image, *augmented = varied.unflatten(0, (copies, count))
        return Batch(image, *numbers, *augmented)

    def _crops(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows (count, H) and columns (count, W) of the padded images to keep; reversed columns flip an image."""
        height, width = self.size
        top, left = torch.randint(0, 2 * self.padding + 1, (2, count, 1), generator=draws)
        flipped = torch.rand(count, 1, generator=draws) < self.flip
        across = torch.arange(width)
        return top + torch.arange(height), left + torch.where(flipped, width - 1 - across, across)

    def _rectangles(self, low: Tensor, high: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rectangles to erase: top, bottom (exclusive), left, right (exclusive), each (count,); all 0 for none.

        Args:
            low, high: (count,) float64, range of the share of the image that is erased.
            draws: source of the random draws.
        Source: Zhong et al. 2020, arXiv:1708.04896, drawn as timm's RandomErasing draws.
        """
        height, width = self.size
        share, aspect = torch.rand(2, len(low), ATTEMPTS, generator=draws, dtype=torch.float64)
        area = (low[:, None] + (high - low)[:, None] * share) * (height * width)  # (count, attempts)
        aspect = torch.exp(LOG_ASPECT[0] + (LOG_ASPECT[1] - LOG_ASPECT[0]) * aspect)
        tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (tall < height) & (wide < width)
        first = fits.int().argmax(dim=1, keepdim=True)
        chance, down, right = torch.rand(3, len(low), generator=draws, dtype=torch.float64)
        erased = fits.any(dim=1) & (chance < self.erase)
        tall, wide = (side.gather(1, first).squeeze(1) * erased for side in (tall, wide))
        top, left = (down * (height - tall + 1)).floor() * erased, (right * (width - wide + 1)).floor() * erased
        return top.long(), (top + tall).long(), left.long(), (left + wide).long()

    def _erase(self, images: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
        rows = torch.arange(self.size[0], device=self.device)[None, :, None]
        columns = torch.arange(self.size[1], device=self.device)[None, None, :]
        top, bottom, left, right = (side[:, None, None] for side in (top, bottom, left, right))
        inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)  # (count, H, W)
        noise = torch.empty_like(images).normal_(generator=self.noise)
        return torch.where(inside[:, None], noise, images)

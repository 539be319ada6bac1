"""An augmentation for pretraining: what differs between cameras and detected boxes, for whole batches at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from svllreid.data.transforms import per_channel


class CameraJitter:
    """Changes box, orientation, light, colour cast and sharpness of each image at random, and erases a rectangle.

    Args:
        mean, std: of each channel, for images in 0..1.
        zoom: largest change of the logarithm of the size; shift: largest shift, as a share of the image.
        cast: standard deviation of the logarithm of each channel's gain; light: that of the brightness.
        contrast, saturation: largest difference of the factor from 1.
        blur: probability of halving the resolution; erase: probability of a rectangle of noise.
        strength: 0 to 1, a factor on all of these.
    """

    def __init__(
        self,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        zoom: float = 0.15,
        shift: float = 0.06,
        cast: float = 0.1,
        light: float = 0.18,
        contrast: float = 0.35,
        saturation: float = 0.4,
        blur: float = 0.25,
        erase: float = 0.3,
        strength: float = 1.0,
    ) -> None:
        self.mean, self.std = per_channel(mean), per_channel(std)
        self.zoom, self.shift, self.cast, self.light = (strength * value for value in (zoom, shift, cast, light))
        self.contrast, self.saturation = strength * contrast, strength * saturation
        self.blur, self.erase = strength * blur, strength * erase

    def __call__(self, pixels: Tensor, draws: torch.Generator) -> Tensor:
        """Augments a batch on the CPU.

        Args:
            pixels: (B, H, W, 3) uint8.
            draws: source of all random draws.
        Returns: (B, 3, H, W) float, normalised.
        """
        images = pixels.movedim(3, 1).float() / 255
        images = self._expose(self._frame(images, draws), draws)
        return (self._erase(images, draws) - self.mean) / self.std

    def _frame(self, images: Tensor, draws: torch.Generator) -> Tensor:
        count = len(images)
        scale = torch.exp(self.zoom * (2 * torch.rand(count, 2, generator=draws) - 1))
        flip = 1 - 2 * (torch.rand(count, generator=draws) < 0.5).float()
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = scale[:, 0] * flip, scale[:, 1]
        theta[:, :, 2] = 2 * self.shift * (2 * torch.rand(count, 2, generator=draws) - 1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        framed = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        height, width = images.shape[2:]
        coarse = F.interpolate(framed, (height // 2, width // 2), mode="area")
        coarse = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
        return torch.where(torch.rand(count, 1, 1, 1, generator=draws) < self.blur, coarse, framed)

    def _expose(self, images: Tensor, draws: torch.Generator) -> Tensor:
        count = len(images)

        def about_one(width: float) -> Tensor:
            return 1 + width * (2 * torch.rand(count, 1, 1, 1, generator=draws) - 1)

        gains = self.cast * torch.randn(count, 3, 1, 1, generator=draws)
        images = images * torch.exp(gains + self.light * torch.randn(count, 1, 1, 1, generator=draws))
        grey = images.mean(dim=1, keepdim=True)
        images = grey + about_one(self.saturation) * (images - grey)
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        return (middle + about_one(self.contrast) * (images - middle)).clamp(0, 1)

    def _erase(self, images: Tensor, draws: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        share = 0.05 + 0.2 * torch.rand(count, generator=draws)
        aspect = torch.exp(1.2 * (2 * torch.rand(count, generator=draws) - 1))
        tall, wide = height * (share * aspect).sqrt(), width * (share / aspect).sqrt()
        top, left = torch.rand(2, count, generator=draws) * torch.stack([height - tall, width - wide])
        down, across = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
        top, left, tall, wide = (value[:, None, None] for value in (top, left, tall, wide))
        inside = (down >= top) & (down < top + tall) & (across >= left) & (across < left + wide)  # (B, H, W)
        inside &= torch.rand(count, 1, 1, generator=draws) < self.erase
        noise = torch.rand(images.shape, generator=draws)
        return torch.where(inside[:, None], noise, images)

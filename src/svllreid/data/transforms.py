"""From a decoded image to tensors: the test transform, and the training transform with its augmented copies."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

# Both augmented copies erase an area in this (published, near-degenerate) range of the image.
AUGMENTED_AREA = (0.33, 1 / 3)
MIN_AREA = 0.02


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context with the random generators of torch and Python seeded; afterwards they are as they were before."""
    torch_state, python_state = torch.random.get_rng_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(torch_state)
        random.setstate(python_state)


class TestTransform:
    """The transform at test: resizes bilinearly and normalises.

    >>> transform = TestTransform((4, 2), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> white = transform(Image.new("RGB", (20, 40), (255, 255, 255)))
    >>> tuple(white.shape), white.unique().tolist()
    ((3, 4, 2), [1.0])

    Args:
        size: height and width.
        mean, std: of each channel, for images in 0..1.
    """

    __test__ = False  # not a test case, whatever its name

    def __init__(self, size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.size, self.mean, self.std = list(size), list(mean), list(std)

    def __call__(self, image: Image.Image) -> Tensor:
        """The (3, H, W) float tensor of an RGB image."""
        return self.normalise(self.resize(image))

    def resize(self, image: Image.Image) -> Tensor:
        """The resized image, (3, H, W) uint8: what is done to each image by itself."""
        return F.pil_to_tensor(F.resize(image, self.size, InterpolationMode.BILINEAR))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Resized images (..., 3, H, W) uint8 as floats, normalised, on the device where they are."""
        return normalised(pixels, *(per_channel(values).to(pixels.device) for values in (self.mean, self.std)))


class TrainTransform:
    """The transform in training, which makes an augmented image and, for self-supervision, two more copies.

    The image is resized bicubically once. Each copy is then flipped, padded, cropped, normalised and erased at random.

    Args:
        size: height and width.
        mean, std: of each channel, for images in 0..1.
        flip: probability of a horizontal flip.
        padding: width in pixels of the black border that is added on each side before the crop.
        erase: probability of random erasing, which fills a rectangle with noise.
        max_area: largest share of the image that is erased (the smallest is 0.02).
        augmented: number of copies for self-supervision, 0 or 2; in these, about a third of the image is erased.
    Source: Zhong et al. 2020, arXiv:1708.04896 (random erasing); Wang et al. 2025, arXiv:2407.20647 (copies).
    """

    def __init__(
        self,
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
        self.size, self.mean, self.std = size, per_channel(mean), per_channel(std)
        self.flip, self.padding = flip, padding
        self.erase = [_erasing(erase, MIN_AREA, max_area)] + [_erasing(erase, *AUGMENTED_AREA)] * augmented

    def __call__(self, image: Image.Image, seed: int) -> tuple[Tensor, ...]:
        """The (3, H, W) float tensors of the image and of each copy; the same seed gives the same tensors."""
        return self.augment(self.resize(image), seed)

    def resize(self, image: Image.Image) -> Tensor:
        """The resized image, (3, H, W) uint8: the part that is not random."""
        return bicubic(image, self.size)

    def augment(self, pixels: Tensor, seed: int) -> tuple[Tensor, ...]:
        """As `__call__`, for an image that is resized already, (3, H, W) uint8; it is not changed."""
        # The border is normalised too, so the image is normalised once and each copy is a crop of it.
        padded = normalised(pad(pixels, [self.padding] * 4), self.mean, self.std)
        with seeded(seed):
            return tuple(erase(self._crop(padded)) for erase in self.erase)

    def _crop(self, padded: Tensor) -> Tensor:
        (height, width), slack = self.size, 2 * self.padding
        flipped = torch.rand(1).item() < self.flip
        top, left = (int(torch.randint(0, slack + 1, ())) for _ in range(2)) if slack else (0, 0)
        if flipped:  # the crop at `left` of the flipped image, as the flip of a crop
            return padded[:, top : top + height, slack - left : slack - left + width].flip(-1)
        return padded[:, top : top + height, left : left + width].clone(memory_format=torch.contiguous_format)


def bicubic(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """An image resized bicubically to (H, W), as a (3, H, W) uint8 tensor."""
    return F.pil_to_tensor(image.resize((size[1], size[0]), Image.Resampling.BICUBIC)).contiguous()


def per_channel(values: Sequence[float]) -> Tensor:
    """Three numbers as a (3, 1, 1) float tensor, which broadcasts over images."""
    return torch.tensor(values).view(-1, 1, 1)


def normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalises images: (pixels / 255 - mean) / std.

    Args:
        pixels: (…, 3, H, W) uint8.
        mean, std: (3, 1, 1) float.
    Returns: (…, 3, H, W) float.
    """
    return pixels.float().mul_(1 / 255).sub_(mean).div_(std)


def _erasing(probability: float, min_area: float, max_area: float) -> RandomErasing:
    return RandomErasing(probability, min_area, max_area, mode="pixel", max_count=1, device="cpu")

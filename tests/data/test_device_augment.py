"""Augmenting a whole batch: repeatable, and distributed as images that are augmented one by one."""

import numpy as np
import pytest
import torch

from svllreid.data.device_augment import DeviceAugment, ResizedBatch, ResizeOnly
from svllreid.data.loader import collate
from svllreid.data.transforms import TrainTransform

CPU, HALF, SIZE = torch.device("cpu"), (0.5, 0.5, 0.5), (40, 20)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def batch_of(pixels, seed=0):
    """A batch of images (B, 3, H, W)."""
    count = len(pixels)
    return ResizedBatch(pixels, *torch.arange(3 * count).view(3, count), torch.arange(count) + seed)


def random_images(count, size=SIZE):
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def grey(count, size=SIZE):
    return torch.full((count, 3, *size), 100, dtype=torch.uint8)


@pytest.mark.parametrize(("flip", "augmented"), [(0.0, 0), (1.0, 2)])
def test_without_draws_exactly_the_other_transform(flip, augmented):
    options = {"flip": flip, "padding": 0, "erase": 0.0, "augmented": augmented}
    images = random_images(5)
    batch = DeviceAugment(CPU, SIZE, MEAN, STD, **options)(batch_of(images))
    one_by_one = TrainTransform(SIZE, MEAN, STD, **options)
    expected = [torch.stack(column) for column in zip(*(one_by_one.augment(image, 0) for image in images), strict=True)]
    found = [batch.images, *(copy for copy in (batch.augmented1, batch.augmented2) if copy is not None)]
    assert len(found) == 1 + augmented
    assert all(torch.equal(a, b) and a.is_contiguous() for a, b in zip(found, expected, strict=True))


def test_labels_stay_with_their_images():
    batch = DeviceAugment(CPU, SIZE, HALF, HALF, augmented=2)(batch_of(random_images(4)))
    assert batch.images.shape == batch.augmented1.shape == batch.augmented2.shape == (4, 3, *SIZE)
    assert (batch.labels.tolist(), batch.camids.tolist(), batch.viewids.tolist()) == (
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    )


def test_same_seeds_same_batch():
    augment = DeviceAugment(CPU, SIZE, HALF, HALF, augmented=2)
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (augment(batch_of(random_images(8), seed)) for seed in (1, 1, 2))
    assert torch.rand(1) == before
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.images, first.augmented1) and not torch.equal(first.augmented1, first.augmented2)


def test_flips_half_of_them():
    ramp = torch.arange(20, dtype=torch.uint8).expand(2000, 3, 40, 20)
    images = DeviceAugment(CPU, SIZE, HALF, HALF, padding=0, erase=0.0)(batch_of(ramp)).images
    flipped = images[:, 0, 0, 0] > images[:, 0, 0, -1]
    assert abs(flipped.float().mean() - 0.5) < 0.04
    often = DeviceAugment(CPU, SIZE, HALF, HALF, flip=0.9, padding=0, erase=0.0)(batch_of(ramp)).images
    assert abs((often[:, 0, 0, 0] > often[:, 0, 0, -1]).float().mean() - 0.9) < 0.03


def test_crops_reach_every_offset_alike():
    place = torch.arange(800, dtype=torch.int64).view(40, 20) + 1  # the pixel's number, in base 256 over the channels
    coded = torch.stack([place % 256, place // 256, place * 0]).to(torch.uint8).expand(6000, 3, 40, 20)
    augment = DeviceAugment(CPU, SIZE, (0.0,) * 3, (1 / 255,) * 3, flip=0.0, padding=2, erase=0.0)
    images = augment(batch_of(coded)).images.round().long()
    numbers = images[:, 0] + 256 * images[:, 1]  # 0 in the border
    middle = numbers[:, 20, 10] - 1
    offsets, counts = torch.stack([middle // 20 - 20, middle % 20 - 10]).unique(dim=1, return_counts=True)
    assert offsets.min() == -2 and offsets.max() == 2 and len(counts) == 25
    assert counts.min() > 170 and counts.max() < 310  # 240 each, deviation 15
    down, across = middle[0] // 20 - 20, middle[0] % 20 - 10
    expected = torch.zeros_like(place)
    rows, columns = torch.arange(40) + down, torch.arange(20) + across
    inside = ((rows >= 0) & (rows < 40))[:, None] & ((columns >= 0) & (columns < 20))
    expected[inside] = place[rows.clamp(0, 39)][:, columns.clamp(0, 19)][inside]
    assert torch.equal(numbers[0], expected)


def rectangles(images):
    """Heights, widths, tops and lefts of the rectangles that differ from grey, 0 where nothing does."""
    clean = torch.tensor(100 / 255 * 2 - 1)
    erased = (images - clean).abs().amax(dim=1) > 1e-5  # (n, H, W)
    rows, columns = erased.any(dim=2), erased.any(dim=1)
    assert torch.equal(erased, rows[:, :, None] & columns[:, None, :])
    tall, wide = rows.sum(1), columns.sum(1)
    tops, lefts = rows.int().argmax(1), columns.int().argmax(1)
    return tall.numpy(), wide.numpy(), tops.numpy(), lefts.numpy()


def test_erased_areas_as_one_by_one():
    options = {"flip": 0.0, "padding": 0, "max_area": 0.25, "augmented": 2}
    size, count = (64, 32), 3000
    batch = DeviceAugment(CPU, size, HALF, HALF, **options)(batch_of(grey(count, size)))
    one_by_one = TrainTransform(size, HALF, HALF, **options)
    pixels = grey(1, size)[0]
    singles = [
        torch.stack(column) for column in zip(*(one_by_one.augment(pixels, s) for s in range(count)), strict=True)
    ]
    for many, single in zip((batch.images, batch.augmented1, batch.augmented2), singles, strict=True):
        ours, theirs = np.array(rectangles(many)), np.array(rectangles(single))
        areas, expected = ours[0] * ours[1] / 2048, theirs[0] * theirs[1] / 2048
        assert abs((areas > 0).mean() - 0.5) < 0.03
        ours, theirs = ours[:, areas > 0], theirs[:, expected > 0]
        areas, expected = areas[areas > 0], expected[expected > 0]
        assert areas.min() == pytest.approx(expected.min(), abs=0.012)
        assert areas.max() == pytest.approx(expected.max(), abs=0.012)
        for a, b in zip([*ours, areas], [*theirs, expected], strict=True):  # height, width, top, left, area
            spread = b.std() * (2 / len(b)) ** 0.5
            assert abs(a.mean() - b.mean()) < 4.5 * spread
            assert abs(a.std() / b.std() - 1) < 0.1


def test_erases_as_often_as_asked_with_normal_noise():
    always = DeviceAugment(CPU, SIZE, HALF, HALF, padding=0, erase=1.0)(batch_of(grey(300))).images
    assert (rectangles(always)[0] > 0).all()
    noise = always[(always - (100 / 255 * 2 - 1)).abs() > 1e-5]
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02 and noise.abs().max() > 3
    assert len(noise.unique()) > 0.97 * len(noise)  # of each pixel and channel


def test_a_rectangle_that_never_fits_is_not_drawn():
    wide = (2, 400)  # any aspect ratio from 0.3 makes a third of it taller than the image
    images = DeviceAugment(CPU, wide, HALF, HALF, flip=0.0, padding=0, erase=1.0, augmented=2)(batch_of(grey(9, wide)))
    assert torch.equal(images.augmented1, images.augmented1[:1, :, :1, :1].expand(9, 3, *wide))


def test_the_loader_leaves_the_work_and_sends_the_seed():
    left = ResizeOnly(SIZE)
    pixels = random_images(2)
    items = [(left.augment(image, 2**62 + index), index, -1, 3) for index, image in enumerate(pixels)]
    batch = collate(items, ResizedBatch)
    assert torch.equal(batch.images, pixels) and batch.images.dtype == torch.uint8
    assert batch.seeds.tolist() == [2**62, 2**62 + 1] and batch.labels.tolist() == [0, 1]


@pytest.mark.gpu
def test_decisions_are_the_same_on_the_gpu():
    options = {"augmented": 2, "erase": 0.0}
    here = DeviceAugment(CPU, SIZE, MEAN, STD, **options)(batch_of(random_images(16)))
    there = DeviceAugment(torch.device("cuda"), SIZE, MEAN, STD, **options)(batch_of(random_images(16)))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))

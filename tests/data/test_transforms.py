"""The transforms: augmented copies, erasing, seeds; datasets and unreadable images."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import v2

from svllreid.data import datasets
from svllreid.data.datasets import UNLABELLED, ImageDataset, TrainDataset, training_labels
from svllreid.data.decodable import keep_decodable
from svllreid.data.images import open_image
from svllreid.data.loader import collate
from svllreid.data.transforms import AUGMENTED_AREA, MIN_AREA, TestTransform, TrainTransform, seeded
from svllreid.errors import ImageError
from svllreid.types import Sample, SideRows

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (80, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_test_transform_is_resize_and_normalise(image):
    tensor = TestTransform((32, 16), HALF, HALF)(image)
    expected = np.asarray(image.resize((16, 32), Image.Resampling.BILINEAR), np.float32) / 127.5 - 1
    np.testing.assert_allclose(tensor.numpy(), expected.transpose(2, 0, 1), atol=1e-6)


def test_same_seed_same_views_and_nothing_leaks(image):
    transform = TrainTransform((32, 16), HALF, HALF, erase=1.0, padding=2, augmented=2)
    torch.manual_seed(5)
    random.seed(5)
    before = (torch.rand(1), random.random())
    torch.manual_seed(5)
    random.seed(5)
    first, again, other = transform(image, 1), transform(image, 1), transform(image, 2)
    assert (torch.rand(1), random.random()) == before
    assert len(first) == 3
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], first[2])


@pytest.mark.parametrize("options", [{}, {"padding": 0}, {"flip": 0.9, "erase": 1.0}])
def test_as_torchvision_and_timm_step_by_step(image, options):
    settings = {"flip": 0.5, "padding": 3, "erase": 0.5} | options
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [
        v2.RandomHorizontalFlip(settings["flip"]),
        v2.RandomCrop((32, 16), padding=settings["padding"]),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean, std),
    ]
    areas = [(MIN_AREA, 0.25), AUGMENTED_AREA, AUGMENTED_AREA]
    erasing = [RandomErasing(settings["erase"], *area, mode="pixel", max_count=1, device="cpu") for area in areas]
    transform = TrainTransform((32, 16), mean, std, max_area=0.25, augmented=2, **settings)
    resized = v2.functional.pil_to_tensor(image.resize((16, 32), Image.Resampling.BICUBIC))
    for seed in range(40):
        with seeded(seed):
            expected = [erase(v2.Compose(steps)(resized)) for erase in erasing]
        found = transform(image, seed)
        assert all(torch.equal(a, b) and a.is_contiguous() for a, b in zip(found, expected, strict=True))


def test_varying_leaves_the_resized_image_alone(image):
    transform = TrainTransform((32, 16), HALF, HALF, padding=0, erase=1.0, augmented=2)
    pixels = transform.resize(image)
    before = pixels.clone()
    transform.augment(pixels, 0)
    assert torch.equal(pixels, before) and pixels.dtype == torch.uint8


def erased_share(tensor, clean):
    return (tensor != clean).any(dim=0).float().mean().item()


def test_erased_areas():
    flat = Image.new("RGB", (50, 100), (90, 90, 90))
    clean = TrainTransform((100, 50), HALF, HALF, erase=0.0, padding=0, augmented=2)(flat, 0)
    assert torch.equal(clean[0], clean[1])
    transform = TrainTransform((100, 50), HALF, HALF, erase=1.0, padding=0, max_area=0.25, augmented=2)
    shares = [[erased_share(t, c) for t, c in zip(transform(flat, seed), clean, strict=True)] for seed in range(60)]
    image_shares, view_shares = np.array(shares)[:, 0], np.array(shares)[:, 1:]
    assert image_shares.min() < 0.1 and 0.2 < image_shares.max() < 0.27
    assert view_shares.min() > 0.29 and view_shares.max() < 0.36
    half = TrainTransform((100, 50), HALF, HALF, erase=0.5, padding=0, augmented=2)
    erased = np.array([[erased_share(t, c) > 0 for t, c in zip(half(flat, s), clean, strict=True)] for s in range(200)])
    assert (abs(erased.mean(axis=0) - 0.5) < 0.12).all()


def test_flip_and_padding():
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:, :5] = 255
    image = Image.fromarray(pixels)
    flipped = TrainTransform((20, 10), HALF, HALF, flip=1.0, padding=0, erase=0.0)(image, 0)[0]
    assert flipped[0, 0, 0] == -1 and flipped[0, 0, -1] == 1
    white = Image.new("RGB", (10, 20), (255, 255, 255))
    crops = [TrainTransform((20, 10), HALF, HALF, padding=5, erase=0.0)(white, s)[0] for s in range(20)]
    assert all(set(crop.unique().tolist()) <= {-1.0, 1.0} for crop in crops)
    assert any((crop == -1).any() for crop in crops)


@pytest.fixture
def samples(tmp_path, image):
    image.save(tmp_path / "good.png")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much more")
    return [Sample(tmp_path / "good.png", 7, 1, -1), Sample(tmp_path / "cut.jpg", 9)]


def test_an_image_is_decoded_once_for_all_its_views(samples, monkeypatch):
    opened = []
    monkeypatch.setattr(datasets, "open_image", lambda path: opened.append(path) or open_image(path))
    transform = TrainTransform((32, 16), HALF, HALF, augmented=2)
    item = TrainDataset(samples, training_labels(samples), transform)[0, 3]
    assert len(item[0]) == 3 and len(opened) == 1
    batch = collate([item, item])
    assert batch.images.shape == batch.augmented1.shape == batch.augmented2.shape == (2, 3, 32, 16)
    # The samples' only camera, 1, has the first row.
    assert (batch.labels.tolist(), batch.camids.tolist(), batch.viewids.tolist()) == ([0, 0], [0, 0], [-1, -1])
    wider = TrainDataset(samples, training_labels(samples), transform, side_rows=SideRows((0, 1), ()))
    assert wider[0, 3][2:] == (1, -1)


def test_test_images_come_with_the_rows_of_the_model(samples):
    transform = TestTransform((32, 16), HALF, HALF)
    assert ImageDataset(samples, transform, SideRows((1, 20240105), (3,)))[0][1:] == (UNLABELLED, 0, -1)
    assert ImageDataset(samples, transform, SideRows((2,), ()))[0][1:] == (UNLABELLED, -1, -1), "no row"
    assert ImageDataset(samples, transform)[0][1:] == (UNLABELLED, -1, -1), "no side information"


def test_unreadable_images_are_named(samples):
    broken = samples[1]
    with pytest.raises(ImageError, match=r"cut\.jpg cannot be read.*restore it"):
        open_image(broken.path)
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        open_image(broken.path.with_name("missing.jpg"))
    data = ImageDataset(samples, TestTransform((32, 16), HALF, HALF))
    assert isinstance(collate([data[0], data[1]]), ImageError)
    kept, faults = keep_decodable(samples)
    assert kept == samples[:1] and len(faults) == 1 and "cut.jpg" in faults[0]


def test_truncated_image_is_unreadable(tmp_path, image):
    image.save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"half\.jpg"):
        open_image(tmp_path / "half.jpg")

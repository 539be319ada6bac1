"""The jitter of pretraining: nothing at strength 0, repeatable, and every part of it does something."""

import pytest
import torch

from svllreid.rendered.camera_jitter import CameraJitter

HALF = (0.5, 0.5, 0.5)
OFF = dict.fromkeys(("zoom", "shift", "cast", "light", "contrast", "saturation", "blur", "erase"), 0.0)


def images() -> torch.Tensor:
    smooth = torch.rand(6, 3, 6, 4, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(smooth, (48, 24), mode="bilinear")
    return (large.movedim(1, 3) * 255).round().to(torch.uint8)


def jittered(seed: int = 0, **options: float) -> torch.Tensor:
    return CameraJitter(HALF, HALF, **options)(images(), torch.Generator().manual_seed(seed))


def test_without_strength_only_flips_are_left():
    plain = (images().movedim(3, 1).float() / 255 - 0.5) / 0.5
    found = jittered(strength=0.0)
    for one, original in zip(found, plain, strict=True):
        gaps = [(one - original).abs().max(), (one - original.flip(2)).abs().max()]
        assert min(gaps) < 1e-4
    flipped = [(one - original).abs().max() > 1e-4 for one, original in zip(found, plain, strict=True)]
    assert 0 < sum(flipped) < 6


def test_draws_come_from_the_generator_alone():
    torch.manual_seed(0)
    first = jittered(3)
    torch.manual_seed(1)
    assert torch.equal(first, jittered(3)) and not torch.equal(first, jittered(4))


@pytest.mark.parametrize("part", OFF)
def test_every_part_changes_images(part):
    still = jittered(**OFF)
    changed = jittered(**{**OFF, part: 0.9 if part in ("blur", "erase") else 0.2})
    assert (changed - still).abs().mean() > 1e-3
    assert changed.isfinite().all() and changed.abs().max() < 1.001

"""Losses against numbers worked out by hand and against their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.losses.clip import clip_loss
from svllreid.losses.identity import identity_loss
from svllreid.losses.simclr import simclr_loss
from svllreid.losses.simsiam import simsiam_loss
from svllreid.losses.supcon import supcon_loss
from svllreid.losses.triplet import triplet_loss


def test_supcon_by_hand():
    anchors = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    others = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    labels = torch.tensor([0, 1])
    # Row 0: logits 1, 0, 1, positives 0 and 2; row 1: logits 0, 2, 2, positive 1.
    first = math.log(2 * math.e + 1) - 1
    second = math.log(1 + 2 * math.e**2) - 2
    loss = supcon_loss(anchors, others, labels, torch.tensor([0, 1, 0]))
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_simclr_by_hand():
    view = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    # Each row: its positive at cosine 1, two negatives at cosine 0.
    expected = math.log(math.exp(10) + 2) - 10
    assert simclr_loss(view, view).item() == pytest.approx(expected, abs=1e-6)
    assert simclr_loss(view, view.flip(0)).item() == pytest.approx(math.log(math.exp(10) + 2), abs=1e-5)


def test_simclr_of_one_row_is_zero():
    assert simclr_loss(torch.randn(1, 4), torch.randn(1, 4)).item() == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(0, 1000))
def test_simclr_is_symmetric_and_its_two_views_are_averaged(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, rows, 5, generator=generator, dtype=torch.float64)
    assert simclr_loss(a, b).item() == pytest.approx(simclr_loss(b, a).item(), abs=1e-5)

    def one_view(own, other):
        own, other = (x / x.norm(dim=1, keepdim=True) for x in (own, other))
        total = 0.0
        for i in range(rows):
            positive = (own[i] @ other[i] / 0.1).exp()
            negatives = sum(
                (own[i] @ own[j] / 0.1).exp() + (own[i] @ other[j] / 0.1).exp() for j in range(rows) if j != i
            )
            total -= math.log(positive / (positive + negatives))
        return total / rows

    assert simclr_loss(a, b).item() == pytest.approx((one_view(a, b) + one_view(b, a)) / 2, abs=1e-4)


def test_simsiam_by_hand_and_stops_gradients():
    p1 = torch.tensor([[1.0, 0.0]], requires_grad=True)
    z1 = torch.tensor([[1.0, 0.0]], requires_grad=True)
    p2, z2 = torch.tensor([[0.0, 3.0]], requires_grad=True), torch.tensor([[1.0, 1.0]], requires_grad=True)
    loss = simsiam_loss(p1, p2, z1, z2)
    assert loss.item() == pytest.approx(-(math.sqrt(0.5) + 0) / 2)
    loss.backward()
    assert p1.grad is not None and z1.grad is None and z2.grad is None


def test_triplet_by_hand():
    features = torch.tensor([[0.0], [3.0], [4.0], [10.0]])
    labels = torch.tensor([0, 0, 1, 1])
    # Farthest positive and nearest negative of each: (3, 4), (3, 1), (6, 1), (6, 7).
    hinges = [max(0, p - n + 0.3) for p, n in ((3, 4), (3, 1), (6, 1), (6, 7))]
    assert triplet_loss(features, labels, 0.3).item() == pytest.approx(sum(hinges) / 4, abs=1e-5)
    soft = [math.log1p(math.exp(p - n)) for p, n in ((3, 4), (3, 1), (6, 1), (6, 7))]
    assert triplet_loss(features, labels, None).item() == pytest.approx(sum(soft) / 4, abs=1e-5)


def test_triplet_of_equal_features_has_finite_gradients():
    features = torch.ones(4, 3, requires_grad=True)
    loss = triplet_loss(features, torch.tensor([0, 0, 1, 1]), 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert torch.isfinite(features.grad).all()


def test_half_precision_does_not_reach_the_distances():
    features = torch.randn(16, 768, generator=torch.Generator().manual_seed(0)) * 10
    labels = torch.arange(16) // 4
    with torch.autocast("cpu", torch.bfloat16):
        assert triplet_loss(features, labels, 0.3) == triplet_loss(features.double().float(), labels, 0.3)
        half = simclr_loss(features[:8], features[8:])
    assert half == simclr_loss(features[:8], features[8:])
    full = triplet_loss(features, labels, 0.3)
    with torch.autocast("cpu", torch.bfloat16):
        assert triplet_loss(features, labels, 0.3) == full


def test_identity_by_hand():
    scores = torch.tensor([[2.0, 0.0, 0.0]])
    logs = torch.log_softmax(scores, dim=1)[0]
    label = torch.tensor([0])
    assert identity_loss(scores, label, smooth=False).item() == pytest.approx(-logs[0].item())
    smoothed = -(0.9 * logs[0] + 0.1 * logs.mean()).item()
    assert identity_loss(scores, label, smooth=True).item() == pytest.approx(smoothed, abs=1e-6)


def test_clip_loss_by_hand():
    images, texts = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    cosines = torch.tensor([[1.0, 0.5**0.5], [0.0, 0.5**0.5]])
    rows, columns = -(4 * cosines).log_softmax(1).diag().mean(), -(4 * cosines).log_softmax(0).diag().mean()
    assert clip_loss(images, texts, torch.tensor(4.0)) == pytest.approx(float(rows + columns) / 2)
    assert clip_loss(images, images, torch.tensor(100.0)) < 1e-6


def test_clip_loss_learns_its_scale():
    scale = torch.tensor(4.0, requires_grad=True)
    clip_loss(torch.eye(3), torch.eye(3), scale).backward()
    assert scale.grad < 0

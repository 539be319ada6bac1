"""Heads of the self-supervised losses: widths, key names of published files, and what they compute."""

import torch
from torch.nn import functional as F

from svllreid.models.heads import PredictionHead, ProjectionHead


def normalised(x):
    """What a fresh BatchNorm makes of a batch in training."""
    return (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt()


def test_projection_by_its_definition():
    head = ProjectionHead(6, 5, 3).train()
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    hidden = normalised(F.linear(features, head.layer1.weight, head.layer1.bias)).relu()
    hidden = normalised(F.linear(hidden, head.layer2.weight, head.layer2.bias)).relu()
    expected = F.linear(hidden, head.layer3.weight, head.layer3.bias)
    assert expected.shape == (4, 3)
    torch.testing.assert_close(head(features), expected)


def test_prediction_by_its_definition():
    head = PredictionHead(6, 5).train()
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    hidden = normalised(F.linear(features, head.linear1.weight, head.linear1.bias)).relu()
    expected = F.linear(hidden, head.layer2.weight, head.layer2.bias)
    assert expected.shape == features.shape
    torch.testing.assert_close(head(features), expected)


def test_published_key_names():
    projection, prediction = ProjectionHead(6, 5, 3).state_dict(), PredictionHead(6, 5).state_dict()
    assert {name.split(".")[0] for name in projection} == {"layer1", "bn1", "layer2", "bn2", "layer3"}
    assert {name.split(".")[0] for name in prediction} == {"linear1", "bn1", "layer2"}


def test_published_initialisation():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = ProjectionHead(200, 400, 300)
        head.init_weights()
    for layer in (head.layer1, head.layer2, head.layer3):
        assert abs(layer.weight.std().item() * (layer.in_features / 2) ** 0.5 - 1) < 0.02, "Kaiming: √(2 / inputs)"
    for norm in (head.bn1, head.bn2):
        for values in (norm.weight, norm.bias):
            assert 0 <= values.min() < 0.05 and 0.95 < values.max() <= 1

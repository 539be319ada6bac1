"""Parameter groups: who learns how fast and decays how much, and that a step is torch's."""

import copy

import pytest
import torch

from svllreid.training.optim import make_optimizer, set_lr

NAMES = (
    "image_encoder.conv1.weight",
    "image_encoder.transformer.resblocks.0.mlp.weight",
    "image_encoder.transformer.resblocks.1.mlp.weight",
    "image_encoder.transformer.resblocks.1.mlp.bias",
    "image_encoder.proj",
    "classifier.weight",
    "bottleneck.bias",
)


def parameters(names=NAMES):
    generator = torch.Generator().manual_seed(0)
    made = {name: torch.nn.Parameter(torch.randn(4, generator=generator)) for name in names}
    for parameter in made.values():
        parameter.grad = torch.randn(4, generator=generator)
    return made


def groups_of(optimizer):
    """Each parameter's own settings, by name."""
    return {name: group for group in optimizer.param_groups for name in group["names"]}


def test_biases_learn_and_decay_as_asked():
    optimizer = make_optimizer(
        parameters().items(), lr=0.1, weight_decay=0.01, bias_lr_factor=2, weight_decay_bias=0.003
    )
    for name, group in groups_of(optimizer).items():
        expected = (0.2, 0.003) if "bias" in name else (0.1, 0.01)
        assert (group["lr"], group["weight_decay"]) == pytest.approx(expected), name
    assert len(optimizer.param_groups) == 2, "the published groups, one of weights and one of biases"


def test_biases_decay_as_weights_where_nothing_else_is_asked():
    optimizer = make_optimizer(parameters().items(), lr=0.1, weight_decay=0.01)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01}


def test_layer_decay_counts_from_the_last_block():
    optimizer = make_optimizer(parameters().items(), lr=1.0, weight_decay=0, layer_decay=0.5, bias_lr_factor=3)
    rates = {name: group["lr"] for name, group in groups_of(optimizer).items()}
    assert rates == pytest.approx(dict(zip(NAMES, (0.125, 0.25, 0.5, 1.5, 1, 1, 3), strict=True)))


def test_layer_decay_knows_the_stages_of_a_resnet():
    names = ("image_encoder.bn1.weight", *(f"image_encoder.layer{stage}.0.conv1.weight" for stage in (1, 2, 3, 4)))
    optimizer = make_optimizer(parameters(names).items(), lr=1.0, weight_decay=0, layer_decay=0.5)
    assert [groups_of(optimizer)[name]["lr"] for name in names] == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5]


def test_a_learning_rate_is_multiplied_by_the_factor_of_each_group():
    optimizer = make_optimizer(parameters().items(), lr=1.0, weight_decay=0, bias_lr_factor=2)
    for lr in (0.5, 0.25):  # from the base each time, not from the rate before
        set_lr(optimizer, lr)
        assert {group["lr"] for group in optimizer.param_groups} == {lr, 2 * lr}


@pytest.mark.parametrize(("name", "torchs"), [("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW)])
def test_a_step_is_torchs_on_each_group(name, torchs):
    ours, theirs = parameters(), copy.deepcopy(parameters())
    make_optimizer(ours.items(), lr=0.1, weight_decay=0.3, bias_lr_factor=2, name=name).step()
    for key, parameter in theirs.items():
        parameter.grad = ours[key].grad.clone()
        torchs([parameter], lr=0.2 if "bias" in key else 0.1, weight_decay=0.3).step()
        torch.testing.assert_close(ours[key], parameter)

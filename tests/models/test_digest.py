"""The digest of weights: what changes it, and what does not."""

import copy

import pytest
import torch
from open_clip.transformer import QuickGELU
from torch import nn

from svllreid.models.digest import weights_digest


def network(activation=nn.GELU):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.BatchNorm2d(4), activation())
        return nn.ModuleDict({"image": image, "text": nn.Linear(4, 2)})


def test_equal_weights_have_one_digest_of_64_hexadecimal_digits():
    digest = weights_digest(network())
    assert digest == weights_digest(copy.deepcopy(network())) and len(bytes.fromhex(digest)) == 32


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made["text"].weight[0, 0].mul_(1 + 2**-20),
        lambda made: made["image"][1].running_mean.add_(1),
        lambda made: made.double(),
        lambda made: setattr(made["image"][0], "stride", (1, 1)),
        lambda made: setattr(made["text"], "bias", None),
        lambda made: setattr(made["text"], "weight", nn.Parameter(made["text"].weight.reshape(4, 2))),
        lambda made: network(QuickGELU),
    ],
    ids=["one number", "statistics", "type", "stride", "entry", "shape", "activation"],
)
def test_what_an_output_depends_on_changes_it(change):
    made = network()
    with torch.no_grad():
        result = change(made)
    assert weights_digest(result if isinstance(result, nn.ModuleDict) else made) != weights_digest(network())


def test_equal_bytes_of_another_type_are_other_weights():
    zeros = [nn.ParameterDict({"w": torch.zeros(3, dtype=dtype)}) for dtype in (torch.float16, torch.bfloat16)]
    assert weights_digest(zeros[0]) != weights_digest(zeros[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made["image"][1].num_batches_tracked.add_(7),
        lambda made: made.requires_grad_(False),
        lambda made: made.to(memory_format=torch.channels_last),
    ],
    ids=["count of batches", "frozen", "order in memory"],
)
def test_what_no_output_depends_on_leaves_it(change):
    made = network()
    with torch.no_grad():
        change(made)
    assert weights_digest(made) == weights_digest(network())


def test_a_part_alone():
    made = network()
    before = [weights_digest(made, prefixes) for prefixes in (("image.",), ("text.",), ("image.", "text."))]
    assert len(set(before)) == 3
    with torch.no_grad():
        made["text"].weight.add_(1)
    after = [weights_digest(made, prefixes) for prefixes in (("image.",), ("text.",), ("image.", "text."))]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]

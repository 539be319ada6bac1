"""Checks of the numbers that users pass."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from svllreid import build_model, load_config
from svllreid.arguments import share, whole_number
from svllreid.errors import ConfigError, EvaluationError


@pytest.mark.parametrize("value", [10, 10.0, np.int64(10), np.float32(10), np.uint8(10), Fraction(20, 2), 10**400])
def test_whole_numbers(value):
    found = whole_number(value, "k", EvaluationError)
    assert type(found) is int and found == value


@pytest.mark.parametrize(
    "value",
    [9, 10.5, "10", None, True, np.True_, float("nan"), float("inf"), [10], Decimal(10), torch.tensor(10), 1 + 0j],
)
def test_other_counts_are_refused(value):
    with pytest.raises(EvaluationError, match=r"k is .*; use a whole number of at least 10"):
        whole_number(value, "k", EvaluationError, least=10)


def test_shares():
    assert [share(value, "x", ConfigError) for value in (0, 1, 0.25, np.float32(0.5))] == [0.0, 1.0, 0.25, 0.5]
    for value in (-0.1, 1.1, float("nan"), "0.5", None, True, [0.5], 10**400):
        with pytest.raises(ConfigError, match=r"x is .*; use a number from 0 to 1"):
            share(value, "x", ConfigError)


@pytest.mark.parametrize("count", ["num_classes", "num_cameras", "num_views"])
def test_a_models_counts(count):
    with pytest.raises(ConfigError, match=rf"{count} is 2\.5; use a whole number"):
        build_model(load_config(overrides={"MODEL.NAME": "tiny"}), **{"num_classes": 3, count: 2.5})

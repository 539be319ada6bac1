"""The moving average of the weights: its numbers, and that the model gets its own weights back."""

import pytest
import torch

from svllreid.training.averaging import WeightAverage


@pytest.fixture
def weight():
    return torch.nn.Parameter(torch.zeros(3))


def follow(average, weight, steps):
    """The weight grows by 1 a step; the average by its definition, a number."""
    expected = 0.0
    for step in range(steps):
        with torch.no_grad():
            weight.add_(1)
        average.update()
        decay = min(average.decay, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight[0].item()
    return expected


@pytest.mark.parametrize("decay", [0.05, 0.9])
def test_the_average_follows_by_its_definition(weight, decay):
    average = WeightAverage({"w": weight}, decay)
    expected = follow(average, weight, 5)
    with average.applied():
        assert weight.tolist() == pytest.approx([expected] * 3)
    assert weight.tolist() == [5, 5, 5]


def test_the_model_gets_its_weights_back_whatever_happens(weight):
    average = WeightAverage({"w": weight}, 0.9)
    expected = follow(average, weight, 2)
    with pytest.raises(KeyboardInterrupt), average.applied():
        raise KeyboardInterrupt
    assert weight.tolist() == [2, 2, 2]
    with average.applied():
        assert weight.tolist() == pytest.approx([expected] * 3)


def test_a_saved_average_goes_on_where_it_was(weight):
    average = WeightAverage({"w": weight}, 0.9)
    follow(average, weight, 5)
    saved = {name: value.clone() for name, value in average.state_dict().items()}
    again = WeightAverage({"w": weight}, 0.9)
    again.load_state_dict(saved)
    for each in (average, again):
        each.update()
    assert torch.equal(average.state_dict()["w"], again.state_dict()["w"])
    assert average.state_dict()["steps"] == again.state_dict()["steps"] == 6
    assert saved["steps"] == 5

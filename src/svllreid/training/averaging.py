"""An exponential moving average of the trained weights (EMA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from svllreid.training.sharding import alike, like


class WeightAverage:
    """Keeps average = decay · average + (1 − decay) · weights, and lends it to the model.

    Args:
        parameters: the trained parameters by name.
        decay: 0 to 1; early on less, (1 + steps) / (10 + steps), so that the start is forgotten.
    Source: Polyak and Juditsky 1992; the warm-up as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.steps = dict(parameters), decay, 0
        self.average = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Follow the weights by one step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for names in alike(self.parameters):
            own = [self.parameters[name].detach() for name in names]
            torch._foreach_lerp_([self.average[name] for name in names], own, 1 - decay)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The model holds the average inside, its own weights again outside."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            own = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The average and its steps, for a file."""
        return {**self.average, "steps": torch.tensor(self.steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        self.steps = int(state["steps"])
        for name, value in self.average.items():
            value.copy_(like(state[name], value))

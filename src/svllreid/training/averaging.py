"""An exponential moving average of the trained weights (EMA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from svllreid.training.sharding import names_by_sharding, sharded_like


class WeightAverage:
    """Keeps average = decay · average + (1 − decay) · weights, and puts it into the model where asked.

    Args:
        parameters: the trained parameters by name.
        decay: 0 to 1. In the first steps the smaller (1 + steps) / (10 + steps) is used instead, so that the weights
            before training lose their influence soon.
    Source: Polyak and Juditsky 1992; the warm-up as in TensorFlow's ExponentialMovingAverage.
    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> average = WeightAverage({"weight": weight}, decay=0.9)
        >>> with torch.no_grad():
        ...     _ = weight.fill_(10.0)
        >>> average.update()  # the first decay is (1 + 0) / (10 + 0)
        >>> with average.applied():
        ...     print(weight.item())
        9.0
        >>> weight.item()
        10.0
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.steps = dict(parameters), decay, 0
        self.average = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the average from the weights as they are now; called after each step of the optimiser."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for names in names_by_sharding(self.parameters):
            weights = [self.parameters[name].detach() for name in names]
            torch._foreach_lerp_([self.average[name] for name in names], weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the model holds the average; afterwards it holds its own weights again."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            weights = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(weights)

    def state_dict(self) -> dict[str, Tensor]:
        """The average by parameter name, and under `steps` the number of updates."""
        return {**self.average, "steps": torch.tensor(self.steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the average and the number of updates from the result of `state_dict`."""
        self.steps = int(state["steps"])
        for name, value in self.average.items():
            value.copy_(sharded_like(state[name], value))

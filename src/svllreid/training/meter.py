"""The losses of an epoch: averaged for the report, and checked to be finite."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from svllreid.errors import TrainingError
from svllreid.runtime.gather import num_processes
from svllreid.training.plan import StagePlan
from svllreid.types import StepResult


class LossMeter:
    """Collects the losses of an epoch on their device, and copies them to the CPU only for reports.

    So no step has to wait until the device has computed its loss.

    Args:
        plan: the stage's plan; an error message takes from it the image files of the step and the advice.
        epoch: counted from 1.
        done: number of steps of this epoch that an earlier process trained.
    """

    def __init__(self, plan: StagePlan, epoch: int, done: int) -> None:
        self.plan, self.epoch, self.first = plan, epoch, done + 1
        self.names: list[str] = []
        self.pending: list[Tensor] = []
        self.images, self.start = 0, time.perf_counter()
        self.sums: Tensor | None = None
        self.count = 0

    def add(self, result: StepResult) -> None:
        """Add the losses of one step."""
        terms = {"loss": result.loss.detach(), **result.terms}
        self.names = list(terms)
        self.pending.append(torch.stack([term.float() for term in terms.values()]))
        self.images += result.num_images

    def check(self) -> Tensor:
        """The losses added since the last `read`, (steps, terms) float64 on the CPU.

        Raises: TrainingError: a loss is not finite; the message names the first such step, its losses and its images.
        """
        if not self.pending:
            return torch.empty(0, len(self.names))
        values = torch.stack(self.pending).cpu().double()
        broken = (~values.isfinite()).nonzero()
        if len(broken):
            row = int(broken[0, 0])
            terms = ", ".join(
                f"{self.names[int(c)]} {values[row, c].item()}" for c in broken[broken[:, 0] == row][:, 1]
            )
            step = self.first + row
            files = self.plan.images_of(self.epoch, step)
            shown = "\n  ".join(files[:64])
            raise TrainingError(
                f"epoch {self.epoch}, step {step}: {terms}. The last saved state is from before. {self.plan.advice}, "
                f"or look at the batch's {len(files)} images:\n  {shown}",
                self.plan.settings,
            )
        return values

    def read(self) -> tuple[dict[str, float], float]:
        """The mean of each loss since the last call, by name, and the images per second.

        The losses are those of this process. The images are counted for all processes, which train as many each.
        """
        values, now = self.check(), time.perf_counter()
        self.first += len(values)
        self.count += len(values)
        total = values.sum(dim=0)
        self.sums = total if self.sums is None else self.sums + total
        speed = num_processes() * self.images / (now - self.start)
        self.pending, self.images, self.start = [], 0, now
        return dict(zip(self.names, (total / len(values)).tolist(), strict=True)), speed

    def means(self) -> dict[str, float]:
        """The mean of each loss over all steps that `read` has seen; empty before the first `read`."""
        if self.sums is None:
            return {}
        return dict(zip(self.names, (self.sums / self.count).tolist(), strict=True))

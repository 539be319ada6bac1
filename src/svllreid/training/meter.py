"""The losses of an epoch: averaged for the report, and checked to be finite."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from svllreid.errors import TrainingError
from svllreid.training.plan import StagePlan
from svllreid.types import StepResult


class LossMeter:
    """Collects the losses of an epoch on their device and reads them only for reports, so that no step waits for one.

    Args:
        plan: of the stage, which names the files of a step and says what to try where a loss is not finite.
        epoch: counted from 1.
        done: steps of the epoch that an earlier process trained.
    """

    def __init__(self, plan: StagePlan, epoch: int, done: int) -> None:
        self.plan, self.epoch, self.first = plan, epoch, done + 1
        self.names: list[str] = []
        self.pending: list[Tensor] = []
        self.images, self.start = 0, time.perf_counter()
        self.sums: Tensor | None = None
        self.count = 0

    def add(self, result: StepResult) -> None:
        """Take one step's losses."""
        terms = {"loss": result.loss.detach(), **result.terms}
        self.names = list(terms)
        self.pending.append(torch.stack([term.float() for term in terms.values()]))
        self.images += result.num_images

    def check(self) -> Tensor:
        """The losses not read yet, (steps, terms); TrainingError at the first step with one that is not finite."""
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
        """Means since the last call, and images per second."""
        values, now = self.check(), time.perf_counter()
        self.first += len(values)
        self.count += len(values)
        total = values.sum(dim=0)
        self.sums = total if self.sums is None else self.sums + total
        speed = self.images / (now - self.start)
        self.pending, self.images, self.start = [], 0, now
        return dict(zip(self.names, (total / len(values)).tolist(), strict=True)), speed

    def means(self) -> dict[str, float]:
        """Means over the steps of the epoch trained here."""
        if self.sums is None:
            return {}
        return dict(zip(self.names, (self.sums / self.count).tolist(), strict=True))

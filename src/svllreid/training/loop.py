"""The epoch loop that both stages share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from torch import nn

from svllreid.errors import CheckpointError
from svllreid.training.optim import set_lr
from svllreid.training.state import Progress, load_state, save_state
from svllreid.types import Pid, StepResult


class Report(Protocol):
    """Who is told how a stage goes."""

    def start_epoch(self, stage: int, epoch: int, max_epochs: int, steps: int) -> None:
        """An epoch of so many steps begins."""

    def step(self, stage: int, step: int, values: dict[str, float], lr: float, images_per_second: float) -> None:
        """So many steps of the stage are done; mean losses since the last call."""

    def advance(self) -> None:
        """One more step is done."""

    def end_epoch(self, stage: int, epoch: int, values: dict[str, float]) -> None:
        """An epoch has ended; mean losses over it."""


class Means:
    """Running means of losses that stay on their device until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, result: StepResult) -> None:
        """Add one step's losses."""
        self.count += 1
        for name, value in {"loss": result.loss.detach(), **result.terms}.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def read(self) -> dict[str, float]:
        """The means, as numbers."""
        return {name: float(total) / self.count for name, total in self.sums.items()}


@dataclass(frozen=True)
class StagePlan:
    """What one stage does.

    Args:
        stage: 1 or 2.
        task: batch in, StepResult out; holds the model.
        optimizer: over the task's trained parameters.
        max_epochs: passes over the data.
        lr: learning rate of an epoch, from 1.
        batches: of an epoch: how many, and the task's arguments one batch after the other.
        kept: names of the model's entries that change in this stage.
        log_period: steps between two reports.
        after_epoch: called when an epoch is done; evaluates and writes checkpoints.
        pids: raw identity of each label; a saved state of others is refused.
    """

    stage: int
    task: nn.Module
    optimizer: torch.optim.Optimizer
    max_epochs: int
    lr: Callable[[int], float]
    batches: Callable[[int], tuple[int, Iterable[Sequence[Any]]]]
    kept: Callable[[str], bool]
    log_period: int
    after_epoch: Callable[[int, Progress], None]
    pids: list[Pid]


def run_stage(fabric: Fabric, plan: StagePlan, state_file: Path, report: Report) -> Progress:
    """Train a stage to its end, continuing where `state_file` says an earlier run stopped."""
    model: nn.Module = plan.task.get_submodule("model")
    progress = Progress()
    saved = load_state(state_file, plan.pids)
    if saved is not None:
        progress = saved["progress"]
        try:
            model.load_state_dict(saved["model"], strict=False)
            plan.optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{state_file} is of another model ({reason}); start over with --fresh") from None
    task, optimizer = fabric.setup(plan.task, plan.optimizer)
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    if saved is not None and saved["scaler"] and scaler is not None:  # empty: so far without mixed precision
        scaler.load_state_dict(saved["scaler"])
    for epoch in range(progress.epoch + 1, plan.max_epochs + 1):
        _run_epoch(fabric, plan, task, optimizer, epoch, report)
        progress.epoch = epoch
        plan.after_epoch(epoch, progress)
        own = {name: value for name, value in model.state_dict().items() if plan.kept(name)}
        scale = {} if scaler is None else scaler.state_dict()
        save_state(state_file, progress, plan.pids, own, optimizer.state_dict(), scale)
    return progress


def _run_epoch(fabric: Fabric, plan: StagePlan, task: nn.Module, optimizer: Any, epoch: int, report: Report) -> None:
    lr = plan.lr(epoch)
    set_lr(optimizer, lr)
    task.train()
    steps, batches = plan.batches(epoch)
    report.start_epoch(plan.stage, epoch, plan.max_epochs, steps)
    whole, recent, images, start = Means(), Means(), 0, time.perf_counter()
    for step, arguments in enumerate(batches, 1):
        optimizer.zero_grad(set_to_none=True)
        result = task(*arguments)
        fabric.backward(result.loss)
        optimizer.step()
        whole.add(result)
        recent.add(result)
        images += result.num_images
        if step % plan.log_period == 0 or step == steps:
            values, now = recent.read(), time.perf_counter()
            report.step(plan.stage, (epoch - 1) * steps + step, values, lr, images / (now - start))
            recent, images, start = Means(), 0, now
        report.advance()
    report.end_epoch(plan.stage, epoch, whole.read())

"""What a stage does, for the loop that both stages share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from svllreid.training.hooks import Hook
from svllreid.types import Pid, SideRows


class Report(Protocol):
    """Shows how training proceeds; `svllreid.runtime.progress.LiveReport` is one."""

    def start_epoch(self, stage: str, epoch: int, max_epochs: int, steps: int, done: int) -> None:
        """An epoch of `steps` steps begins, `done` of which an earlier process trained."""

    def step(self, stage: str, step: int, values: dict[str, float], lr: float, images_per_second: float) -> None:
        """The stage has taken `step` steps in all; `values` are the mean losses since the last call."""

    def advance(self) -> None:
        """One more step is done."""

    def end_epoch(self, stage: str, epoch: int, values: dict[str, float]) -> None:
        """An epoch has ended; `values` are its mean losses."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage does.

    Args:
        stage: what it is called, such as `stage 1`.
        task: takes a batch and returns a StepResult; its submodule `model` is the network.
        optimizer: over the task's trained parameters.
        max_epochs: passes over the data.
        lr: learning rate of an epoch, counted from 1.
        batches: takes an epoch and the steps of it that are done; returns the number of steps of the whole epoch, and
            the task's arguments for each step that is left.
        images_of: the files of a step of an epoch, both counted from 1, for messages.
        kept: whether an entry of the model's state dict changes in this stage, by its name; only those are saved.
        log_period: steps between two reports.
        save_period: steps between two saved states; 0 saves at the ends of epochs.
        hooks: called before each epoch, after each step and after each epoch, in this order.
        pids: raw identity of each label; a saved state of others is refused.
        final: the file that the last epoch leaves; where it is missing, the hooks of that epoch run again.
        advice: what to try where a loss is not finite.
        settings: what `advice` speaks of, see `ReidError`.
        prompts: digest of the prompts trained against, see `StateFile`; empty where there are none.
        side_rows: the cameras and viewpoints whose rows of side information are trained, see `StateFile`; None where
            none are.
        ema_decay: decay of the weight average that is evaluated and kept; 0 keeps the weights themselves.
        max_steps: steps of an epoch at most; None: all.
    """

    stage: str
    task: nn.Module
    optimizer: torch.optim.Optimizer
    max_epochs: int
    lr: Callable[[int], float]
    batches: Callable[[int, int], tuple[int, Iterable[Sequence[Any]]]]
    images_of: Callable[[int, int], Sequence[str]]
    kept: Callable[[str], bool]
    log_period: int
    save_period: int
    hooks: Sequence[Hook]
    pids: list[Pid]
    final: Path
    advice: str = "Lower the learning rate, or train in precision 32"
    settings: tuple[str, ...] = ("learning rate", "precision")
    prompts: str = ""
    side_rows: SideRows | None = None
    ema_decay: float = 0.0
    max_steps: int | None = None

"""The plan of a stage: everything the epoch loop needs to know of it."""

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
    """What the loop calls to show how training proceeds; `svllreid.runtime.progress.LiveReport` implements it."""

    def start_epoch(self, stage: str, epoch: int, max_epochs: int, steps: int, done: int) -> None:
        """Called as an epoch of `steps` steps begins, of which an earlier process has trained `done`."""

    def step(self, stage: str, step: int, values: dict[str, float], lr: float, images_per_second: float) -> None:
        """Called after every `log_period` steps of an epoch, and after its last one.

        Args:
            stage: what the stage is called.
            step: number of steps that the stage has taken in all epochs.
            values: mean losses since the last call, gradient norm, and on a GPU the memory used (GB).
            lr: base learning rate.
            images_per_second: mean since the last call, of all processes together.
        """

    def advance(self) -> None:
        """Called after every step."""

    def end_epoch(self, stage: str, epoch: int, values: dict[str, float]) -> None:
        """Called after an epoch with its mean losses."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage trains, on which batches, and what happens on the way.

    Args:
        stage: what the stage is called, such as `stage 1`.
        task: a module that takes a batch and returns a StepResult; its submodule `model` is the network.
        optimizer: the optimiser of the task's trained parameters.
        max_epochs: number of passes over the data.
        lr: the learning rate of an epoch, counted from 1.
        batches: takes an epoch and the number of its steps that are done. Returns the number of steps of the whole
            epoch, and for each step that is left the arguments of the task.
        images_of: the image files of a step of an epoch, both counted from 1, for error messages.
        kept: takes the name of an entry of the model's state dict and returns whether this stage changes it. Only such
            entries are saved.
        log_period: number of steps between two reports.
        save_period: number of steps between two saved states; 0 saves at the ends of epochs only.
        hooks: called before each epoch, after each step and after each epoch, in this order.
        pids: raw identity of each label; a saved state of other identities is refused.
        final: the file that the hooks of the last epoch write. If it is missing, a continued run calls them again.
        advice: what to try where a loss is not finite.
        settings: the settings that `advice` names, see `ReidError`.
        prompts: digest of the prompts that the stage trains against, see `StateFile`; empty where there are none.
        side_rows: the cameras and viewpoints whose rows of side information are trained, see `StateFile`; None where
            none are.
        ema_decay: decay of the weight average, which the hooks after an epoch see in place of the weights; 0 keeps no
            average.
        max_steps: most steps of an epoch; None takes all.
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

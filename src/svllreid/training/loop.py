"""The epoch loop that both stages share: it can be killed at any moment and continued to the same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from svllreid.errors import CheckpointError, TrainingError
from svllreid.runtime.interrupt import StopSignals
from svllreid.runtime.processes import any_process, average_gradients, broadcast_buffers
from svllreid.training.averaging import WeightAverage
from svllreid.training.optim import set_lr
from svllreid.training.sharding import gradient_norm, like, optimizer_state_like, whole
from svllreid.training.state import StateFile, TrainingProgress
from svllreid.types import Pid, SideRows, StepResult

_MEND = "Lower the learning rate (SOLVER.STAGE1.BASE_LR, SOLVER.STAGE2.BASE_LR), or train in SOLVER.PRECISION 32"


class Report(Protocol):
    """Who is told how a stage goes."""

    def start_epoch(self, stage: str, epoch: int, max_epochs: int, steps: int, done: int) -> None:
        """An epoch of so many steps begins, some of them done before."""

    def step(self, stage: str, step: int, values: dict[str, float], lr: float, images_per_second: float) -> None:
        """So many steps of the stage are done; mean losses since the last call."""

    def advance(self) -> None:
        """One more step is done."""

    def end_epoch(self, stage: str, epoch: int, values: dict[str, float]) -> None:
        """An epoch has ended; mean losses over it."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage does.

    Args:
        stage: what it is called, such as `stage 1`.
        task: batch in, StepResult out; holds the model.
        optimizer: over the task's trained parameters.
        max_epochs: passes over the data.
        lr: learning rate of an epoch, from 1.
        batches: of an epoch, from a step on: how many the whole epoch has, and the task's arguments of each.
        images_of: the files of a step of an epoch, both from 1, for messages.
        kept: names of the model's entries that change in this stage.
        log_period: steps between two reports.
        save_period: steps between two saved states; 0 saves at the ends of epochs.
        after_epoch: called when an epoch is trained and its state saved; writes checkpoints, then evaluates. It is
            called again for the same epoch where it failed or was interrupted.
        pids: raw identity of each label; a saved state of others is refused.
        prompts: digest of the prompts trained against, see `StateFile`; empty where there are none.
        side_rows: whose rows of side information are trained, see `StateFile`; None where none are.
        final: what the last epoch leaves; where it is gone, that epoch is evaluated and kept again.
        ema_decay: of the weight average that is evaluated and kept; 0 keeps the weights themselves.
        max_steps: of an epoch; None: all.
        profiler: told of every step; None: nobody.
        mend: what to try where a loss is not finite.
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
    after_epoch: Callable[[int, TrainingProgress], None]
    pids: list[Pid]
    final: Path
    prompts: str = ""
    side_rows: SideRows | None = None
    ema_decay: float = 0.0
    max_steps: int | None = None
    profiler: Any = None
    mend: str = _MEND


def run_stage(fabric: Fabric, plan: StagePlan, state_file: Path, report: Report) -> TrainingProgress:
    """Train a stage to its end, continuing where `state_file` says an earlier run stopped.

    Raises:
        CheckpointError: a saved state that cannot be used.
        TrainingError: a loss that is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM; during a step after that step, with the state saved.
    """
    with StopSignals() as stop:
        return StageRun(
            fabric, plan, StateFile(state_file, plan.pids, plan.prompts, plan.side_rows), report, stop
        ).run()


class StageRun:
    """One stage under training."""

    def __init__(self, fabric: Fabric, plan: StagePlan, file: StateFile, report: Report, stop: StopSignals) -> None:
        self.fabric, self.plan, self.file, self.report, self.stop = fabric, plan, file, report, stop
        self.model: nn.Module = plan.task.get_submodule("model")
        self.progress = TrainingProgress()
        saved = file.load()
        if saved is not None:
            self.progress = saved[0]
            self._restore(saved[1])
        self.task, self.optimizer = fabric.setup(plan.task, plan.optimizer)
        self.parameters = [p for group in plan.optimizer.param_groups for p in group["params"]]
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.average = WeightAverage(trained, plan.ema_decay) if plan.ema_decay else None
        self.scaler = getattr(fabric.strategy.precision, "scaler", None)
        if saved is not None:
            if saved[1]["scaler"] and self.scaler is not None:  # empty: so far without mixed precision
                self.scaler.load_state_dict(saved[1]["scaler"])
            if saved[1]["average"] and self.average is not None:
                self.average.load_state_dict(saved[1]["average"])

    def _restore(self, parts: dict[str, Any]) -> None:
        try:
            own = self.model.state_dict()
            known = {name: like(value, own[name]) for name, value in parts["model"].items() if name in own}
            self.model.load_state_dict({**parts["model"], **known}, strict=False)
            self._restore_optimizer(parts["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{self.file.path} is of another model ({reason}); start over with --fresh") from None

    def _restore_optimizer(self, saved: dict[str, Any]) -> None:
        """Moments as saved, settings such as the weight decay as they are now."""
        optimizer = self.plan.optimizer
        groups = optimizer.state_dict()["param_groups"]
        if [group["names"] for group in groups] != [group["names"] for group in saved["param_groups"]]:
            raise ValueError("its parameters are grouped otherwise: SOLVER.STAGE2.LAYER_DECAY, SOLVER.SHARD must stay")
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.load_state_dict({**optimizer_state_like(saved, parameters), "param_groups": groups})

    def run(self) -> TrainingProgress:
        """Run the epochs that are left."""
        progress = self.progress
        # Stopped while that epoch was being evaluated, or what it left has been removed since.
        lost = progress.epoch == self.plan.max_epochs and not self.plan.final.is_file()
        if any_process(progress.epoch > 0 and (progress.settled < progress.epoch or lost)):
            self._settle()
        for epoch in range(progress.epoch + 1, self.plan.max_epochs + 1):
            with self.stop.deferred():
                self._run_epoch(epoch)
                progress.epoch, progress.step = epoch, 0
                self._save()
            if any_process(self.stop.requested):
                raise KeyboardInterrupt
            self._settle()
        return progress

    def _settle(self) -> None:
        with self.average.lent() if self.average is not None else nullcontext():
            self.plan.after_epoch(self.progress.epoch, self.progress)
        if self.fabric.is_global_zero:
            self.file.settle(self.progress)

    def _save(self) -> None:
        """Save the state, unless the last update has broken the weights.

        With a loss scale the scaler has left out an update that is not finite.
        """
        if self.scaler is None and self.progress.total and not math.isfinite(gradient_norm(self.parameters)):
            raise TrainingError(
                f"epoch {self.progress.epoch + 1}, step {self.progress.step}: the gradient is not finite. The last "
                f"saved state is from before. {self.plan.mend}"
            )
        kept = {name: value for name, value in self.model.state_dict().items() if self.plan.kept(name)}
        parts = {
            "model": kept,
            "optimizer": self.optimizer.state_dict(),
            "scaler": {} if self.scaler is None else self.scaler.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
        }
        parts = whole(parts)
        if self.fabric.is_global_zero:
            self.file.save(self.progress, parts)

    def _run_epoch(self, epoch: int) -> None:
        plan, lr = self.plan, self.plan.lr(epoch)
        set_lr(self.optimizer, lr)
        self.task.train()
        steps, batches = plan.batches(epoch, self.progress.step)
        if plan.max_steps is not None:
            steps = min(steps, plan.max_steps)
            batches = islice(batches, max(0, steps - self.progress.step))
        self.report.start_epoch(plan.stage, epoch, plan.max_epochs, steps, self.progress.step)
        losses = Losses(epoch, self.progress.step, plan.images_of, plan.mend)
        for step, arguments in enumerate(batches, self.progress.step + 1):
            losses.add(self._train(arguments))
            self.report.advance()
            self.progress.step = step
            self.progress.total += 1
            if step % plan.log_period == 0 or step == steps:
                values, speed = losses.read()
                values["grad_norm"] = gradient_norm(self.parameters)
                if self.fabric.device.type == "cuda":
                    values["gpu_gb"] = torch.cuda.max_memory_allocated() / 2**30
                self.report.step(plan.stage, self.progress.total, values, lr, speed)
            stopping = any_process(self.stop.requested)
            if (stopping or (plan.save_period and step % plan.save_period == 0)) and step < steps:
                losses.check()
                self._save()
                if stopping:
                    raise KeyboardInterrupt
        broadcast_buffers(self.model)
        self.report.end_epoch(plan.stage, epoch, losses.means())

    def _train(self, arguments: Sequence[Any]) -> StepResult:
        self.optimizer.zero_grad(set_to_none=True)
        result: StepResult = self.task(*arguments)
        self.fabric.backward(result.loss)
        average_gradients(self.parameters)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        if self.plan.profiler is not None:
            self.plan.profiler.step()
        return result


class Losses:
    """Losses of an epoch, left on their device until they are read, so that no step waits for a number.

    Args:
        epoch: from 1.
        done: steps of the epoch done before.
        images_of: the files of a step, for messages.
        mend: what to try where a loss is not finite.
    """

    def __init__(
        self, epoch: int, done: int, images_of: Callable[[int, int], Sequence[str]], mend: str = _MEND
    ) -> None:
        self.epoch, self.first, self.images_of, self.mend = epoch, done + 1, images_of, mend
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
            files = self.images_of(self.epoch, step)
            shown = "\n  ".join(files[:64])
            raise TrainingError(
                f"epoch {self.epoch}, step {step}: {terms}. The last saved state is from before. {self.mend}, or look "
                f"at the batch's {len(files)} images:\n  {shown}"
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

"""The epoch loop of both stages: a run that is killed at any moment can be continued to the same weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.fabric import Fabric
from torch import nn

from svllreid.errors import CheckpointError, TrainingError
from svllreid.runtime.background import BackgroundWriter
from svllreid.runtime.interrupt import StopSignals
from svllreid.runtime.processes import any_process, average_gradients, broadcast_buffers
from svllreid.training.averaging import WeightAverage
from svllreid.training.meter import LossMeter
from svllreid.training.optim import set_lr
from svllreid.training.plan import Report, StagePlan
from svllreid.training.sharding import full_tensors, gradient_norm, optimizer_state_like, sharded_like
from svllreid.training.state import StateFile, TrainingProgress, snapshot
from svllreid.types import StepResult


def run_stage(
    fabric: Fabric, plan: StagePlan, state_file: Path, report: Report, writer: BackgroundWriter
) -> TrainingProgress:
    """Train a stage to its end and return its progress; an earlier run is continued from its saved state.

    Args:
        fabric: device, precision and processes.
        plan: what the stage trains, on which batches, with which hooks.
        state_file: the .pt file of the saved state; it is read if it exists, and written after each epoch, in the
            background while the next one is trained. When the function returns or raises, it is written.
        report: shows the progress and records the losses.
        writer: its thread writes the state; it is entered here. Hooks that write files wait for it first, so that no
            file is newer than the state.
    Raises:
        OutputError: the state cannot be written. It is raised after the step that is trained meanwhile.
        CheckpointError: the saved state cannot be read or belongs to another run.
        TrainingError: a loss or a gradient is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM. A signal during a step is raised after that step, when the state is saved.
    """
    file = StateFile(state_file, plan.pids, plan.prompts, plan.side_rows)
    with StopSignals() as stop, writer:
        return StageRun(fabric, plan, file, report, stop, writer).run()


class StageRun:
    """The training of one stage; the arguments are those of `run_stage`.

    Args:
        file: the saved state of the stage.
        stop: the signals that ask the run to stop.
        writer: an entered one.
    """

    def __init__(
        self,
        fabric: Fabric,
        plan: StagePlan,
        file: StateFile,
        report: Report,
        stop: StopSignals,
        writer: BackgroundWriter,
    ) -> None:
        self.fabric, self.plan, self.file, self.report = fabric, plan, file, report
        self.stop, self.writer = stop, writer
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
            if saved[1].get("scaler") and self.scaler is not None:  # empty where the run had no mixed precision so far
                self.scaler.load_state_dict(saved[1]["scaler"])
            if saved[1].get("average") and self.average is not None:
                self.average.load_state_dict(saved[1]["average"])

    def _restore(self, parts: dict[str, Any]) -> None:
        try:
            current = self.model.state_dict()
            known = {
                name: sharded_like(value, current[name]) for name, value in parts["model"].items() if name in current
            }
            self.model.load_state_dict({**parts["model"], **known}, strict=False)
            self._restore_optimizer(parts["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{self.file.path} is of another model ({reason}); start over", ("starting over",)
            ) from None

    def _restore_optimizer(self, saved: dict[str, Any]) -> None:
        """Load the saved moments; settings such as the weight decay stay as they are now."""
        optimizer = self.plan.optimizer
        groups = optimizer.state_dict()["param_groups"]
        if [group["names"] for group in groups] != [group["names"] for group in saved["param_groups"]]:
            raise ValueError(
                "it trains other parameters or groups of them, so frozen blocks, layer decay, sharding or "
                "self-supervision were changed"
            )
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.load_state_dict({**optimizer_state_like(saved, parameters), "param_groups": groups})

    def run(self) -> TrainingProgress:
        """Train the epochs that are left and return the progress."""
        progress = self.progress
        # The hooks of the last trained epoch run again if a process stopped during them, or if their file was removed.
        missing = progress.epoch == self.plan.max_epochs and not self.plan.final.is_file()
        if any_process(progress.epoch > 0 and (progress.settled < progress.epoch or missing)):
            self._after_epoch()
        for epoch in range(progress.epoch + 1, self.plan.max_epochs + 1):
            with self.stop.deferred():
                self._run_epoch(epoch)
                progress.epoch, progress.step = epoch, 0
                self._save()
            if any_process(self.stop.requested):
                self._stop()
            self._after_epoch()
        return progress

    def _stop(self) -> NoReturn:
        """End the run as a signal asked, when the state is on the disk."""
        self.writer.wait()
        self.fabric.barrier()  # the other processes must not end while the first one writes
        raise KeyboardInterrupt

    def _after_epoch(self) -> None:
        """Call the hooks of a trained epoch, then save, after its state, that they have run."""
        with self.average.applied() if self.average is not None else nullcontext():
            for hook in self.plan.hooks:
                hook.after_epoch(self.progress.epoch, self.progress)
        if self.fabric.is_global_zero:
            self.progress.settled = self.progress.epoch
            self.writer.submit(self.file.settle, replace(self.progress))

    def _save(self) -> None:
        """Hand the state to the writer; TrainingError instead if the last update was not finite and broke the weights.

        The writer gets a copy, once the state before is written, so there is never more than one copy in memory.
        With a loss scale there is nothing to check, because the scaler skips such updates.
        """
        if self.scaler is None and self.progress.total and not math.isfinite(gradient_norm(self.parameters)):
            raise TrainingError(
                f"epoch {self.progress.epoch + 1}, step {self.progress.step}: the gradient is not finite. The last "
                f"saved state is from before. {self.plan.advice}",
                self.plan.settings,
            )
        self.writer.wait()
        kept = {name: value for name, value in self.model.state_dict().items() if self.plan.kept(name)}
        parts = {
            "model": kept,
            "optimizer": self.optimizer.state_dict(),
            "scaler": {} if self.scaler is None else self.scaler.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
        }
        parts = full_tensors(parts)
        if self.fabric.is_global_zero:
            self.writer.submit(self.file.save, replace(self.progress), snapshot(parts))

    def _run_epoch(self, epoch: int) -> None:
        """Train the steps of an epoch that are left; report, save and stop where it is due."""
        plan, lr = self.plan, self.plan.lr(epoch)
        set_lr(self.optimizer, lr)
        for hook in plan.hooks:
            hook.before_epoch(epoch)
        self.task.train()
        steps, batches = plan.batches(epoch, self.progress.step)
        if plan.max_steps is not None:
            steps = min(steps, plan.max_steps)
            batches = islice(batches, max(0, steps - self.progress.step))
        self.report.start_epoch(plan.stage, epoch, plan.max_epochs, steps, self.progress.step)
        losses = LossMeter(plan, epoch, self.progress.step)
        for step, arguments in enumerate(batches, self.progress.step + 1):
            losses.add(self._train(arguments))
            self.report.advance()
            self.progress.step = step
            self.progress.total += 1
            for hook in plan.hooks:
                hook.after_step(epoch, step)
            self.writer.check()
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
                    self._stop()
        broadcast_buffers(self.model)
        self.report.end_epoch(plan.stage, epoch, losses.means())

    def _train(self, arguments: Sequence[Any]) -> StepResult:
        """Take one step of the optimiser on a batch, given as the task's arguments."""
        self.optimizer.zero_grad(set_to_none=True)
        result: StepResult = self.task(*arguments)
        self.fabric.backward(result.loss)
        average_gradients(self.parameters)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return result

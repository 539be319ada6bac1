"""The plans of the two stages: batches, learning rates, what is saved, and which files a message names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svllreid import build
from svllreid.data.loader import batches
from svllreid.data.samplers import permuted_batches
from svllreid.jobs.run import Run
from svllreid.models.checkpoint import TEXT, prompts_digest
from svllreid.models.reid import SVLLReID
from svllreid.runtime.gather import num_processes, process_rank
from svllreid.runtime.progress import LiveReport
from svllreid.training.hooks import Hook
from svllreid.training.plan import StagePlan
from svllreid.training.schedule import cosine_lr, step_lr
from svllreid.training.stage1 import Stage1Task
from svllreid.training.stage2 import Stage2Task
from svllreid.types import Batch

logger = logging.getLogger(__name__)


class FirstStep(Hook):
    """Shows a bar during the first step, which takes long where the task is compiled in it.

    Args:
        report: shows it.
        text: what is going on; empty: no bar.
    """

    def __init__(self, report: LiveReport, text: str) -> None:
        self.report, self.text = report, text
        self.bar = ExitStack()

    def before_epoch(self, epoch: int) -> None:
        """Show the bar, before the first epoch that is trained."""
        if self.text:
            self.bar.enter_context(self.report.tracking(self.text))
            self.text = ""

    def after_step(self, epoch: int, step: int) -> None:
        """Remove it."""
        self.bar.close()


def _compiled(run: Run, task: Stage1Task | Stage2Task, steps: int, report: LiveReport) -> FirstStep:
    """Compile a task where the configuration asks for it; the hook that shows how long that takes."""
    note = build.compile_task(run.config, task, run.fabric, steps)
    if note:
        logger.info("%s", note)
    return FirstStep(report, note)


def stage1_plan(run: Run, model: SVLLReID, features: Tensor, hooks: Sequence[Hook], report: LiveReport) -> StagePlan:
    """Stage 1: prompts against cached image features.

    Args:
        run: configuration, data and device.
        model: on the device.
        features: (n, E) of the training images, on the device.
        hooks: what else happens, such as writing checkpoints.
        report: shows that the task is being compiled.
    """
    config, data, fabric = run.config, run.data, run.fabric
    stage, seed = config.solver.stage1, config.solver.seed
    labels = torch.tensor(data.numbers, device=fabric.device)
    generator = torch.Generator(fabric.device)
    processes = num_processes()

    def shares(epoch: int) -> list[np.ndarray]:
        plan = permuted_batches(len(data.samples), stage.ims_per_batch, seed, epoch)
        return [np.array_split(part, processes)[process_rank()] for part in plan if len(part) >= processes]

    def epoch_batches(epoch: int, done: int) -> tuple[int, Iterable[Sequence[Any]]]:
        plan = shares(epoch)

        def steps() -> Iterable[Sequence[Any]]:
            for step, part in enumerate(plan[done:], done):
                draw = np.random.SeedSequence([seed, 1, epoch, step, process_rank()]).generate_state(1, np.uint64)[0]
                generator.manual_seed(int(draw >> 1))
                chosen = torch.from_numpy(part).to(fabric.device)
                yield features[chosen], labels[chosen], generator

        return len(plan), steps()

    task = build.build_stage1(config, model)
    compiling = _compiled(run, task, len(shares(1)) * stage.max_epochs, report)
    return StagePlan(
        stage="stage 1",
        task=task,
        optimizer=build.build_optimizer(config, task),
        max_epochs=stage.max_epochs,
        lr=lambda epoch: cosine_lr(
            epoch,
            base_lr=stage.base_lr,
            max_epochs=stage.max_epochs,
            lr_min=stage.lr_min,
            warmup_epochs=stage.warmup_epochs,
            warmup_lr_init=stage.warmup_lr_init,
        ),
        batches=epoch_batches,
        images_of=lambda epoch, step: [str(data.samples[row].path) for row in shares(epoch)[step - 1]],
        kept=lambda name: name.startswith(("prompt_learner.cls_ctx", "text_mlp.")),
        log_period=stage.log_period,
        save_period=config.solver.save_period,
        hooks=[compiling, *hooks],
        pids=list(data.labels),
        final=run.folder.final(config, 1),
        max_steps=run.options.max_steps,
    )


def stage2_plan(run: Run, model: SVLLReID, hooks: Sequence[Hook], report: LiveReport) -> StagePlan:
    """Stage 2: the image encoder against the prompts.

    Args:
        run: configuration, data and device.
        model: on the device.
        hooks: what else happens, such as writing checkpoints and evaluating.
        report: shows that the task is being compiled.
    """
    config, data, fabric = run.config, run.data, run.fabric
    stage, sampler = config.solver.stage2, build.build_sampler(config, data)
    task = build.build_stage2(config, model.eval())
    loader = build.build_train_loader(config, data, sampler, fabric)
    to_device = build.build_to_device(config, fabric)
    stream: Iterator[Batch] | None = None

    def epoch_batches(epoch: int, done: int) -> tuple[int, Iterable[Sequence[Any]]]:
        nonlocal stream
        if stream is None:  # one for all epochs, so that workers are ahead when an epoch begins
            sampler.set_epoch(epoch, done, last=stage.max_epochs)
            stream = batches(loader)
        count = len(sampler.epoch_batches(epoch))
        return count, ((to_device(batch),) for batch in islice(stream, count - done))

    def images_of(epoch: int, step: int) -> list[str]:
        return [str(data.samples[index].path) for index, _ in sampler.epoch_batches(epoch)[step - 1]]

    compiling = _compiled(run, task, len(sampler.epoch_batches(1)) * stage.max_epochs, report)

    return StagePlan(
        stage="stage 2",
        task=task,
        optimizer=build.build_optimizer(config, task),
        max_epochs=stage.max_epochs,
        lr=lambda epoch: step_lr(
            epoch,
            base_lr=stage.base_lr,
            steps=stage.steps,
            gamma=stage.gamma,
            warmup_factor=stage.warmup_factor,
            warmup_epochs=stage.warmup_iters,
            warmup_method=stage.warmup_method,
        ),
        batches=epoch_batches,
        images_of=images_of,
        kept=lambda name: not name.startswith(TEXT),
        log_period=stage.log_period,
        save_period=config.solver.save_period,
        hooks=[compiling, *hooks],
        pids=list(data.labels),
        final=run.folder.final(config, 2),
        max_steps=run.options.max_steps,
        prompts=prompts_digest(model.state_dict()),
        side_rows=data.side_rows if config.model.sie_camera or config.model.sie_view else None,
        ema_decay=stage.ema_decay,
    )

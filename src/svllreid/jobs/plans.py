"""What each stage does in its epochs: batches, learning rates, and where its files are named in messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from svllreid import build
from svllreid.config import Config
from svllreid.data.loader import batches
from svllreid.data.samplers import PKSampler, permuted_batches
from svllreid.models.checkpoint import TEXT, prompts_digest
from svllreid.models.reid import SVLLReID
from svllreid.runtime.gather import num_processes, process_rank
from svllreid.training.loop import StagePlan
from svllreid.training.schedule import cosine_lr, step_lr
from svllreid.training.state import TrainingProgress

AfterEpoch = Callable[[int, TrainingProgress], None]


def stage1_plan(
    config: Config,
    model: SVLLReID,
    data: build.TrainingData,
    features: Tensor,
    fabric: Fabric,
    after_epoch: AfterEpoch,
    **options: Any,
) -> StagePlan:
    """Stage 1: prompts against cached image features.

    Args:
        features: (n, E) of the training images, on the device.
        after_epoch: evaluates and writes checkpoints.
        options: further ones of StagePlan.
    """
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
        after_epoch=after_epoch,
        pids=list(data.labels),
        **options,
    )


def stage2_plan(
    config: Config,
    model: SVLLReID,
    data: build.TrainingData,
    sampler: PKSampler,
    fabric: Fabric,
    after_epoch: AfterEpoch,
    **options: Any,
) -> StagePlan:
    """Stage 2: the image encoder against the prompts.

    Args:
        sampler: of P x K batches.
        after_epoch: evaluates and writes checkpoints.
        options: further ones of StagePlan.
    """
    stage = config.solver.stage2
    task = build.build_stage2(config, model.eval())
    loader = build.build_train_loader(config, data, sampler, fabric)
    to_device = build.build_to_device(config, fabric)

    def epoch_batches(epoch: int, done: int) -> tuple[int, Iterable[Sequence[Any]]]:
        sampler.set_epoch(epoch, done)
        return len(sampler) + done, ((to_device(batch),) for batch in batches(loader))

    def images_of(epoch: int, step: int) -> list[str]:
        sampler.set_epoch(epoch)
        return [str(data.samples[index].path) for index, _ in sampler.epoch_batches()[step - 1]]

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
        after_epoch=after_epoch,
        pids=list(data.labels),
        prompts=prompts_digest(model.state_dict()),
        side_rows=data.side_rows if config.model.sie_camera or config.model.sie_view else None,
        ema_decay=stage.ema_decay,
        **options,
    )

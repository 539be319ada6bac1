"""How fast this machine trains and tests a configuration, and how large a batch fits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric import Fabric
from rich.console import Console

from svllreid import build
from svllreid.config import Config
from svllreid.errors import ConfigError, DeviceError
from svllreid.machine import peak_memory, physical_memory
from svllreid.models.reid import SVLLReID
from svllreid.runtime.progress import LiveReport
from svllreid.training.compiling import MIN_STEPS
from svllreid.types import Batch

IDENTITIES, CAMERAS, VIEWS = 751, 6, 8
SHARE_OF_MEMORY = 0.8
STEPS = 3


@dataclass(frozen=True)
class Measured:
    """One kind of work at one batch size.

    Args:
        work: stage 1, stage 2 or test.
        batch_size: images a step.
        images_per_second: median over some steps, the first left out.
        first_seconds: of the first step, in which a stage is compiled.
        memory: largest memory of the process (CPU) or of tensors (GPU) so far, bytes; None where the system does not
            tell.
    """

    work: str
    batch_size: int
    images_per_second: float
    memory: int | None
    first_seconds: float = 0.0


@dataclass(frozen=True)
class Bench:
    """What was measured, and the batch size of stage 2 that should fit.

    Args:
        measured: in the order it was done.
        memory: of the device, bytes; None where the system does not tell.
        suggested: None where memory is not known, or does not grow with the batch.
    """

    measured: list[Measured]
    memory: int | None
    suggested: int | None


def run_bench(config: Config, device: str, console: Console | None = None) -> Bench:
    """Steps of both stages and of testing on random images and weights, at two batch sizes each.

    Memory of stage 2 is taken to grow in proportion to the batch: the suggestion fills 80 % of what there is.

    Raises: ReidError: the configuration does not fit, or not even the smaller batch fits.
    """
    config = config.model_copy(update={"model": config.model.model_copy(update={"pretrained": "random"})})
    fabric = build.build_fabric(config, device)
    whole, least = config.solver.stage2.ims_per_batch, 2 * config.dataloader.num_instance
    if whole % config.dataloader.num_instance or whole < least:
        raise ConfigError(
            f"SOLVER.STAGE2.IMS_PER_BATCH {whole} is no multiple of DATALOADER.NUM_INSTANCE "
            f"{config.dataloader.num_instance}, at least twice that; change one of them"
        )
    half = max(least, whole // 2 // least * least)
    sizes = [half, whole] if half < whole else [whole, 2 * whole]
    works: dict[str, Callable[[Config, Fabric, int], Callable[[], None]]] = {
        "stage 1": stage1_step,
        "test": test_step,
        "stage 2": stage2_step,
    }
    measured = []
    with LiveReport(console or Console(stderr=True)) as report:
        for work, make in works.items():
            with report.counting(work, len(sizes) * (1 + STEPS)) as count:
                measured += [measure_step(work, make(config, fabric, size), size, fabric, count) for size in sizes]
    memory = _machine_memory(fabric)
    return Bench(measured, memory, _suggest(measured, memory, config.dataloader.num_instance))


def _suggest(measured: list[Measured], memory: int | None, multiple: int) -> int | None:
    """The largest batch of stage 2 within the memory, by a line through what was measured; see `Bench`."""
    points = [(found.batch_size, found.memory) for found in measured if found.work == "stage 2"]
    (small, low), (large, high) = points[0], points[-1]
    if memory is None or low is None or high is None or high <= low:
        return None
    fits = small + (SHARE_OF_MEMORY * memory - low) / ((high - low) / (large - small))
    return max(multiple * 2, int(fits) // (multiple * 2) * (multiple * 2))


def measure_step(
    work: str, step: Callable[[], None], size: int, fabric: Fabric, count: Callable[[int], None]
) -> Measured:
    times = []
    try:
        for _ in range(1 + STEPS):
            start = time.perf_counter()
            step()
            if fabric.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
            count(1)
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"{work} at batch {size} does not fit in memory; lower SOLVER.STAGE2.IMS_PER_BATCH, set "
            "SOLVER.STAGE2.MICRO_BATCH or MODEL.GRAD_CHECKPOINTING"
        ) from None
    return Measured(work, size, size / float(np.median(times[1:])), _used(fabric), times[0])


def _used(fabric: Fabric) -> int | None:
    return int(torch.cuda.max_memory_allocated()) if fabric.device.type == "cuda" else peak_memory()


def _machine_memory(fabric: Fabric) -> int | None:
    if fabric.device.type == "cuda":
        return int(torch.cuda.get_device_properties(fabric.device).total_memory)
    return physical_memory()


def _model(config: Config, fabric: Fabric) -> SVLLReID:
    views = VIEWS if config.model.sie_view else 1
    model = build.build_model(config, num_classes=IDENTITIES, num_cameras=CAMERAS, num_views=views)
    return model.to(fabric.device)


def _images(config: Config, fabric: Fabric, size: int) -> torch.Tensor:
    return torch.randn(size, 3, *config.input.size_train, device=fabric.device)


def _batch(config: Config, fabric: Fabric, size: int) -> Batch:
    k = config.dataloader.num_instance
    labels = torch.arange(size // k, device=fabric.device).repeat_interleave(k)
    augmented = [_images(config, fabric, size) for _ in range(2)] if config.model.use_ssl else [None, None]
    zeros = torch.zeros(size, dtype=torch.int64, device=fabric.device)
    return Batch(_images(config, fabric, size), labels, zeros, zeros, *augmented)


def stage1_step(config: Config, fabric: Fabric, size: int) -> Callable[[], None]:
    model = _model(config.model_copy(update={"model": config.model.model_copy(update={"use_text": True})}), fabric)
    task = build.build_stage1(config, model).train()
    build.compile_task(config, task, fabric, MIN_STEPS)
    optimizer = build.build_optimizer(config, task)
    features = torch.randn(size, model.image_encoder.proj_dim, device=fabric.device)
    labels, generator = torch.randint(IDENTITIES, (size,), device=fabric.device), torch.Generator(fabric.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with fabric.autocast():
            loss = task(features, labels, generator).loss
        loss.backward()
        optimizer.step()

    return step


def stage2_step(config: Config, fabric: Fabric, size: int) -> Callable[[], None]:
    task = build.build_stage2(config, _model(config, fabric)).train()
    build.compile_task(config, task, fabric, MIN_STEPS)
    optimizer, batch = build.build_optimizer(config, task), _batch(config, fabric, size)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with fabric.autocast():
            loss = task(batch).loss
        loss.backward()
        optimizer.step()

    return step


def test_step(config: Config, fabric: Fabric, size: int) -> Callable[[], None]:
    model, images = _model(config, fabric).eval(), _images(config, fabric, size)

    @torch.inference_mode()
    def step() -> None:
        with fabric.autocast():
            model.embed(images)

    return step

"""Steps, embedding and ranking on a GPU: one table, with the ceiling of the card's matrix units.

    python benchmarks/gpu.py [--case stage1 stage2 embedding ranking whole ...]

All but `whole` (what `svllreid bench --whole msmt17` predicts) run unless --case says otherwise.

Full ViT-B/16 (256 x 128, stride 12, side information) with random weights. Steps are those of training: forward,
backward with loss scaling in 16-mixed, optimiser; medians of 20 after 8, timed with events on the card. Model FLOPs
utilisation (MFU) counts 20.34 TFLOP for a step of stage 2 with 64 images and two augmented copies of each (PyTorch's
own count), against the matrix product measured in the same run. Losses of the compiled step are compared with those
of the plain one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from svllreid import Encoder, build, evaluate_features, load_config, verify_features
from svllreid.evaluation.analysis import analyse
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.jobs.prediction import predict
from svllreid.training.compiling import MIN_STEPS
from svllreid.types import Batch

BATCHES = 8  # that the steps of stage 1 take in turn
CUDA = torch.device("cuda")
STEP_TFLOP = 20.34
IDENTITIES, CAMERAS = 1041, 15
QUERIES, GALLERY = 11_659, 82_161  # MSMT17's
Row = tuple[str, str, str]


def config_of(precision: str, compiled: bool) -> Any:
    keys = {"MODEL.PRETRAINED": "random", "SOLVER.PRECISION": precision, "MODEL.COMPILE": compiled}
    return load_config("person/vit_svllreid.yml", keys)


def milliseconds(step: Callable[[], Any], repeats: int = 20) -> float:
    """Median time of a step on the card, after as many steps as there are different batches."""
    for _ in range(BATCHES):
        step()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return time.perf_counter() - start, result


def ceiling() -> float:
    """TFLOP/s of a large product of random bfloat16 matrices."""
    size = 8192
    first, second = (torch.randn(size, size, device=CUDA, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / milliseconds(lambda: first @ second) / 1e9


class Steps:
    """A stage's steps as the training loop takes them.

    Args:
        stage: 1 or 2.
        precision: of SOLVER.PRECISION.
        compiled: as MODEL.COMPILE.
    """

    def __init__(self, stage: int, precision: str, compiled: bool) -> None:
        config = config_of(precision, compiled)
        self.fabric = build.build_fabric(config, "cuda")
        model = build.build_model(config, num_classes=IDENTITIES, num_cameras=CAMERAS).to(CUDA)
        task = (build.build_stage1 if stage == 1 else build.build_stage2)(config, model)
        build.compile_task(config, task, self.fabric, MIN_STEPS)
        self.task, self.optimizer = self.fabric.setup(task, build.build_optimizer(config, task))
        self.task.train()
        self.arguments = _stage1_batch if stage == 1 else _stage2_batch
        self.count, self.losses = 0, []

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        result = self.task(*self.arguments(self.count % BATCHES))
        self.fabric.backward(result.loss)
        self.optimizer.step()
        self.losses.append(result.loss.detach().clone())
        self.count += 1


@cache
def _stage1_batch(number: int) -> tuple[Any, ...]:
    """Features and labels; batches differ in how many distinct identities they have."""
    draw = torch.Generator().manual_seed(number)
    labels = torch.randint(IDENTITIES, (256,), generator=draw).to(CUDA)
    features = torch.randn(256, 512, generator=draw).to(CUDA)
    return features, labels, torch.Generator(CUDA)


@cache
def _stage2_batch(number: int) -> tuple[Batch]:
    """Random images of 16 identities with two augmented copies, the same in every step."""
    if number:
        return _stage2_batch(0)
    draw = torch.Generator().manual_seed(0)
    images = [torch.randn(64, 3, 256, 128, generator=draw).to(CUDA) for _ in range(3)]
    labels = torch.arange(16, device=CUDA).repeat_interleave(4)
    cameras = torch.arange(64, device=CUDA) % CAMERAS
    return (Batch(images[0], labels, cameras, torch.full_like(labels, -1), images[1], images[2]),)


def stage(number: int, precision: str, limit: float) -> list[Row]:
    """Rows of a stage, plain and compiled; the first losses of both are compared."""
    rows, losses, name = [], [], f"stage {number}, {precision}"
    for compiled in (False, True):
        torch.cuda.reset_peak_memory_stats()
        steps = Steps(number, precision, compiled)
        first, _ = seconds(steps)
        took = milliseconds(steps)
        memory = torch.cuda.max_memory_allocated() / 2**30
        losses.append(torch.stack(steps.losses[:1]).cpu())
        detail = f"{memory:.1f} GB, first step {first:.0f} s"
        if number == 2:
            detail = f"MFU {STEP_TFLOP * 1e3 / took / limit * 100:.1f} %, {detail}"
        rows.append((f"{name}, {'compiled' if compiled else 'plain'}", f"{took:.1f} ms", detail))
        del steps
        torch.cuda.empty_cache()
    difference = ((losses[1] - losses[0]).abs() / losses[0].abs()).max().item()
    return [*rows, (f"{name}, first loss", f"{difference:.1e}", "relative difference of compiled and plain")]


def embedding() -> list[Row]:
    """The network alone on images in memory, and Encoder.encode from JPEG files."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        random, paths = np.random.default_rng(0), []
        for number in range(1024):
            small = Image.fromarray(random.integers(0, 256, (16, 8, 3), np.uint8))
            paths.append(Path(folder) / f"{number}.jpg")
            small.resize((128, 256), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
        for precision in ("32", "bf16-mixed"):
            config = config_of(precision, False)
            model = build.build_model(config, num_classes=2, num_cameras=CAMERAS)
            embedder = build.build_embedder(config, model, build.build_fabric(config, "cuda"))
            images, unknown = torch.randn(64, 3, 256, 128, device=CUDA), torch.full((64,), -1, device=CUDA)
            with torch.inference_mode():
                took = milliseconds(lambda: embedder(images, unknown, unknown))  # noqa: B023 - called within the loop
            encoder = Encoder(embedder, embedder.transform, model.side_rows, batch_size=64)
            whole, _ = seconds(lambda: encoder.encode(paths))  # noqa: B023
            detail = f"Encoder.encode from JPEG files {len(paths) / whole:,.0f} images/s"
            rows.append((f"embedding, {precision}", f"{64e3 / took:,.0f} images/s", detail))
    return rows


def ranking() -> list[Row]:
    """Ranking, verification, analysis and re-ranking at MSMT17's size; and equality with the CPU at Market-1501's."""
    rows = []
    large, small = _features(QUERIES, GALLERY), _features(3368, 15_913)
    host = [small[0].cpu(), small[1].cpu(), *small[2:]]
    evaluate_features(*small)
    for name, work in (
        ("ranking", lambda data: evaluate_features(*data)),
        ("verification", lambda data: verify_features(*data)),
        ("analysis", lambda data: analyse(*data, cameras=True)),
        ("re-ranking", lambda data: evaluate_features(*data, rerank=RerankOptions())),
    ):
        torch.cuda.reset_peak_memory_stats()
        took, _ = seconds(lambda: work(large))  # noqa: B023
        memory = torch.cuda.max_memory_allocated() / 2**30
        took_small, found = seconds(lambda: work(small))  # noqa: B023
        took_cpu, expected = seconds(lambda: work(host))  # noqa: B023
        difference = abs(_number(found) - _number(expected))
        detail = f"{memory:.1f} GB; 3368 x 15913: {took_small:.2f} s, CPU {took_cpu:.2f} s, differ by {difference:.1e}"
        rows.append((f"{name}, 11659 x 82161", f"{took:.2f} s", detail))
    return rows


def _number(found: Any) -> float:
    """mAP, or the area below the ROC."""
    ranking = getattr(found, "ranking", found)
    return float(getattr(ranking, "mean_ap", None) or ranking.auc)


def _features(queries: int, gallery: int) -> tuple[Any, ...]:
    draw = torch.Generator(CUDA).manual_seed(0)
    centres = torch.randn(750, 1280, device=CUDA, generator=draw)
    pids = [torch.randint(0, 750, (count,), device=CUDA, generator=draw) for count in (queries, gallery)]
    features = [centres[p] + 3 * torch.randn(len(p), 1280, device=CUDA, generator=draw) for p in pids]
    cameras = [np.random.default_rng(0).integers(0, 6, count) for count in (queries, gallery)]
    return (*features, *(p.cpu().numpy() for p in pids), *cameras)


def whole() -> list[Row]:
    """What `svllreid bench --whole msmt17` predicts for this machine."""
    found = predict(config_of("16-mixed", True), "msmt17", "cuda", Console(quiet=True))
    rows = [
        (f"msmt17: {part.name}", f"{part.seconds / 60:.1f} min", f"{part.amount}; {part.bound}") for part in found.parts
    ]
    return [*rows, ("msmt17: both stages", f"{found.seconds / 60:.1f} min", f"{(found.memory or 0) / 1e9:.1f} GB")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = ("stage1", "stage2", "embedding", "ranking", "whole")
    parser.add_argument("--case", nargs="+", choices=cases, default=cases[:-1])
    chosen = parser.parse_args().case
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device; this benchmark measures GPUs")
    table = Table("work", "measured", "more", title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    limit = ceiling()
    table.add_row("product of bfloat16 matrices", f"{limit:.0f} TFLOP/s", "")
    makers: dict[str, Callable[[], list[Row]]] = {
        "stage1": lambda: stage(1, "16-mixed", limit),
        "stage2": lambda: stage(2, "16-mixed", limit),
        "embedding": embedding,
        "ranking": ranking,
        "whole": whole,
    }
    for name, make in makers.items():
        if name in chosen:
            for row in make():
                table.add_row(*row)
    with suppress(BrokenPipeError):
        Console(width=160).print(table)


if __name__ == "__main__":
    main()

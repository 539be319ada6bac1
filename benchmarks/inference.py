"""Images per second and latency of a trained model in every runtime, float32 and int8, in one table and one run.

    python benchmarks/inference.py [--model tiny|vit12|vit16|rn50 ...] [--threads 1] [--seconds 4] [--no-compile]
                                   [--images FOLDER]

Weights are random but for `tiny`, which has those of the tiny CLIP: speed does not depend on them. Images are noise, or
those of a folder; they also calibrate static int8. Batches of 1 and 32 images (`--batch`): images per second from the
median time of a batch, its ratio to PyTorch, and p50 and p99 of the latency at batch 1. The measurements are
interleaved, so a machine that becomes busy slows all down alike. `cosine` compares features with those of PyTorch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from svllreid import build, load_config
from svllreid.embedding.contract import Embedder
from svllreid.embedding.export import Variant, export_model
from svllreid.embedding.exported import Agreement
from svllreid.embedding.torch import TorchEmbedder
from svllreid.jobs.exporting import pictures
from svllreid.runtime.progress import LiveReport
from svllreid.types import SideRows

MODELS = {
    "tiny": "person/tiny_svllreid.yml",
    "vit12": "person/vit_svllreid.yml",
    "vit16": "person/vit_clipreid.yml",
    "rn50": "person/rn50_clipreid.yml",
}
TRIALS = 32


def network(name: str) -> TorchEmbedder:
    """An untrained network of a published configuration; `tiny` has the tiny CLIP's weights."""
    clip = {} if name == "tiny" else {"MODEL.PRETRAINED": "random"}
    off = {"MODEL.USE_TEXT": False, "MODEL.USE_SSL": False, "MODEL.USE_SSL_STAGE1": False}
    config = load_config(MODELS[name], {**clip, **off})
    return build.build_export_embedder(config, build.build_model(config, num_classes=1, num_cameras=2))


def compiled(embedder: TorchEmbedder) -> Variant:
    """The embedder with its image encoder compiled; the first batches compile."""
    model = embedder.model
    copy = TorchEmbedder(model, embedder.transform, embedder.device, neck=embedder.neck, normalize=embedder.normalize)
    copy.features = torch.compile(copy.features)  # type: ignore[method-assign]
    return Variant("PyTorch float32, compiled", copy, 0, Agreement(0, 1.0, 1.0))


def variants(embedder: TorchEmbedder, images: torch.Tensor, folder: Path, *, compile_too: bool) -> list[Variant]:
    """The model in every runtime."""
    rows = SideRows.counted(2, 1)
    size = sum(value.numel() * value.element_size() for value in embedder.model.state_dict().values())
    made = [Variant("PyTorch float32", embedder, size, Agreement(len(images), 1.0, 1.0))]
    if compile_too:
        made.append(compiled(embedder))
    options = {"real": images[:TRIALS], "int8": True}
    made += export_model(embedder, rows, folder / "dynamic.onnx", **options)
    made += export_model(embedder, rows, folder / "static.onnx", calibration=images, **options)[1:]
    made += export_model(embedder, rows, folder / "static.xml", kind="openvino", calibration=images, **options)
    return made


def batch_times(embedders: list[Embedder], batch: int, seconds: float) -> list[list[float]]:
    """Times of batches of each embedder, in turn, until each was measured for about so many seconds."""
    size = embedders[0].spec.image_size
    images, ids = torch.rand(batch, 3, *size) * 2 - 1, torch.zeros(batch, dtype=torch.int64)
    times: list[list[float]] = [[] for _ in embedders]
    with torch.inference_mode():
        for embedder in embedders:  # caches, and compilation
            embedder(images, ids, ids)
        while any(len(taken) < 3 or sum(taken) < seconds for taken in times):
            for embedder, taken in zip(embedders, times, strict=True):
                for _ in range(1 if sum(taken) > seconds else 5 if batch == 1 else 1):
                    start = time.perf_counter()
                    embedder(images, ids, ids)
                    taken.append(time.perf_counter() - start)
    return times


def measure(name: str, options: argparse.Namespace, console: Console) -> None:
    """Measures one model and prints its table."""
    embedder = network(name)
    size = embedder.spec.image_size
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (100, 3, *size), dtype=np.uint8))
    if options.images:
        images = pictures(options.images, embedder.spec, 100, LiveReport(console))
    batch = options.batch
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = variants(embedder, images, Path(folder), compile_too=not options.no_compile)
        single = batch_times([variant.embedder for variant in made], 1, options.seconds)
        several = batch_times([variant.embedder for variant in made], batch, options.seconds)
    title = f"{name}, {size[0]} x {size[1]}, {options.threads} thread{'s' * (options.threads > 1)}"
    heads = ("images/s, batch 1", f"images/s, batch {batch}", "ratio", "p50, ms", "p99, ms", "cosine min", "mean", "MB")
    table = Table("model", *heads, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    base = float(np.median(several[0]))
    for variant, one, many in zip(made, single, several, strict=True):
        middle, late = np.percentile(one, [50, 99])
        cosines = [f"{variant.agreement.minimum:.5f}", f"{variant.agreement.mean:.5f}"]
        table.add_row(
            variant.name,
            f"{1 / middle:.1f}",
            f"{batch / np.median(many):.1f}",
            f"{base / np.median(many):.2f}",
            f"{1000 * middle:.2f}",
            f"{1000 * late:.2f}",
            *(cosines if variant.agreement.images else ["", ""]),
            f"{variant.size / 1e6:.1f}" if variant.size else "",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(MODELS), help="default: tiny and vit12")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0, help="of measurement for each runtime and batch size")
    parser.add_argument("--batch", type=int, default=32, help="the larger batch")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which needs a C++ compiler")
    parser.add_argument("--images", type=Path, help="a folder of images to compare and to calibrate with")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=150)
    for name in options.model or ["tiny", "vit12"]:
        measure(name, options, console)


if __name__ == "__main__":
    main()

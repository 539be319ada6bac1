"""`Encoder.encode` from JPEG files against the network alone on images in memory, ratios taken within one run.

    python benchmarks/encoder.py [--model tiny vit] [--images 512 32] [--repeats 3] [--device cpu]

Images are drawn, 256 x 128, JPEG quality 90. The network alone gets batches of resized uint8 images; encode opens,
decodes and resizes files too. Both use the same threads. Passes take turns; medians are reported.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from svllreid import Encoder, build, load_config
from svllreid.embedding.loop import embed_batch
from svllreid.jobs.prediction import draw_images
from svllreid.types import Batch

IMAGES = {"tiny": 512, "vit": 32, "rn50": 32}


def measure(name: str, count: int, repeats: int, device: str, folder: Path) -> str:
    """A line of the table."""
    config = load_config(f"person/{name}_svllreid.yml", {"MODEL.PRETRAINED": "random"})
    model = build.build_model(config, num_classes=2, num_cameras=6)
    embedder = build.build_embedder(config, model, build.build_fabric(config, device))
    encoder = Encoder(embedder, embedder.transform.resize, model.side_rows)
    paths = [sample.path for sample in draw_images(folder, count)]
    size = min(encoder.batch_size, count)
    unknown = torch.full((size,), -1)
    batch = Batch(torch.randint(0, 256, (size, 3, *config.input.size_test), dtype=torch.uint8), *[unknown] * 3)
    network, whole = [], []
    for turn in range(repeats + 1):
        start = time.perf_counter()
        for _ in range(count // size):
            embed_batch(embedder, batch)
        middle = time.perf_counter()
        encoder.encode(paths)
        if turn:  # the first pass warms up
            network.append(count // size * size / (middle - start))
            whole.append(count / (time.perf_counter() - middle))
    alone, files = statistics.median(network), statistics.median(whole)
    return f"{name:>6} {alone:14,.1f} {files:14,.1f} {files / alone:8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["tiny", "vit"], choices=list(IMAGES))
    parser.add_argument("--images", nargs="+", type=int, help="of each model; default: 512 for tiny, 32 for the others")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    counts = args.images or [IMAGES[name] for name in args.model]
    if len(counts) != len(args.model) or min(counts) < 1:
        parser.error("--images: give one number of images, at least 1, for each model")
    print(f"{torch.get_num_threads()} threads, images per second, median of {args.repeats}")
    print(f"{'model':>6} {'network alone':>14} {'from files':>14} {'ratio':>8}")
    for name, count in zip(args.model, counts, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            print(measure(name, count, args.repeats, args.device, Path(folder)), flush=True)


if __name__ == "__main__":
    main()

"""Images per second of stage 2's input pipeline against a plain one, ratios taken within one run.

    python benchmarks/pipeline.py [--quick] [--root DIR] [--workers N] [--augmented 2] [--repeats N] [--device NAME]

One image counts once, whatever its augmented copies. The plain pipeline decodes, resizes and augments anew for the
image and for each copy. Everything else is what training uses; caches are filled before the clock starts. Each pass
loads every image once in batches of 64, the pipelines taking turns; the median of the passes is reported. Images are
drawn (Market-1501's size) unless --root names a folder with a Market-1501-v15.09.15. With --device the images are
augmented there, from the memory cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from svllreid import load_dataset
from svllreid.data.cache import CacheSpec
from svllreid.data.datasets import TrainDataset, training_labels
from svllreid.data.device_augment import DeviceAugment, ResizedBatch, ResizeOnly
from svllreid.data.loader import batches, make_loader
from svllreid.data.transforms import AUGMENTED_AREA, MIN_AREA, TrainTransform
from svllreid.rendered import synthesize
from svllreid.types import Sample

SIZE, HALF, BATCH = (256, 128), (0.5, 0.5, 0.5), 64


class Plain(Dataset[Any]):
    """Every view from its file."""

    def __init__(self, samples: tuple[Sample, ...], augmented: int) -> None:
        self.samples, self.labels = samples, training_labels(samples)
        self.vary = [self._chain(MIN_AREA, 1 / 3)] + [self._chain(*AUGMENTED_AREA)] * augmented

    @staticmethod
    def _chain(low: float, high: float) -> Callable[[Image.Image], torch.Tensor]:
        steps = [
            transforms.Resize(SIZE, transforms.InterpolationMode.BICUBIC),
            transforms.RandomHorizontalFlip(),
            transforms.Pad(10),
            transforms.RandomCrop(SIZE),
            transforms.ToTensor(),
            transforms.Normalize(HALF, HALF),
            RandomErasing(0.5, low, high, mode="pixel", max_count=1, device="cpu"),
        ]
        return transforms.Compose(steps)

    def __getitem__(self, key: tuple[int, int]) -> tuple[tuple[torch.Tensor, ...], int, int, int]:
        sample = self.samples[key[0]]
        images = tuple(vary(Image.open(sample.path).convert("RGB")) for vary in self.vary)
        return images, self.labels[sample.pid], sample.camid, sample.viewid


class Passes:
    """Each pass: every index once in a fresh order, with fresh seeds."""

    def __init__(self, count: int) -> None:
        self.count, self.random = count, np.random.default_rng(0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, seeds = self.random.permutation(self.count), self.random.integers(2**63 - 1, size=self.count)
        keys = [(int(index), int(seed)) for index, seed in zip(order, seeds, strict=True)]
        return iter([keys[start : start + BATCH] for start in range(0, self.count, BATCH)])

    def __len__(self) -> int:
        return -(-self.count // BATCH)


def pipelines(
    samples: tuple[Sample, ...], folder: Path, args: argparse.Namespace
) -> dict[str, tuple[DataLoader[Any], Callable[[Any], Any]]]:
    """Each pipeline's loader, and what is done to its batches."""
    paths, labels = tuple(sample.path for sample in samples), training_labels(samples)
    memory, disk = (CacheSpec(kind, paths, SIZE, folder, args.workers > 0).open() for kind in ("memory", "disk"))
    ours = TrainTransform(SIZE, HALF, HALF, augmented=args.augmented)
    datasets: dict[str, Dataset[Any]] = {
        "plain": Plain(samples, args.augmented),
        "ours": TrainDataset(samples, labels, ours),
        "ours, memory cache": TrainDataset(samples, labels, ours, memory),
        "ours, disk cache": TrainDataset(samples, labels, ours, disk),
    }

    def loading(dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        return make_loader(dataset, workers=args.workers, batch_sampler=Passes(len(samples)), **options)

    found = {name: (loading(dataset, pin=False), lambda batch: batch) for name, dataset in datasets.items()}
    if args.device:
        device = torch.device(args.device)
        resized = TrainDataset(samples, labels, ResizeOnly(SIZE), memory)
        augment = DeviceAugment(device, SIZE, HALF, HALF, augmented=args.augmented)
        found[f"memory cache, {device}"] = loading(resized, pin=device.type == "cuda", batch_type=ResizedBatch), augment
    return found


def seconds(source: DataLoader[Any], arrive: Callable[[Any], Any]) -> float:
    """Time of one pass."""
    start = time.perf_counter()
    for batch in batches(source):
        last = arrive(batch)
    last.images.sum().item()  # waits for the device
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256 images, 3 passes")
    parser.add_argument("--root", type=Path, help="folder that holds a Market-1501-v15.09.15; default: drawn images")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--augmented", type=int, default=2, help="augmented copies beside the image")
    parser.add_argument("--repeats", type=int, default=5, help="passes")
    parser.add_argument("--device", help="also augment on cuda, cpu, ...")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker process
    count, repeats = (256, 3) if args.quick else (512, args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        identities = -(-count // 12)
        root = args.root or synthesize(Path(folder, "drawn"), identities=identities)
        samples = load_dataset("market1501", root).train[:count]
        compared = pipelines(samples, Path(folder), args)
        times: dict[str, list[float]] = {name: [] for name in compared}
        for turn in range(repeats + 1):  # the first fills caches and starts workers
            for name, (source, arrive) in compared.items():
                taken = seconds(source, arrive)
                times[name] += [taken] * (turn > 0)
    print(
        f"{len(samples)} images, {args.augmented} augmented copies, {args.workers} workers, median of {repeats} passes"
    )
    print(f"{'pipeline':<24}{'images/s':>10}{'ratio':>8}")
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, taken in medians.items():
        print(f"{name:<24}{len(samples) / taken:>10.0f}{medians['plain'] / taken:>7.2f}x")


if __name__ == "__main__":
    main()

"""How long a whole run on a published dataset would take on this machine, from short measurements."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from PIL import Image
from rich.console import Console

from svllreid import build
from svllreid.config import Config
from svllreid.data.loader import batches
from svllreid.data.readers import DATASETS
from svllreid.data.readers.record import Published
from svllreid.data.samplers import PKSampler, permuted_batches
from svllreid.errors import ConfigError
from svllreid.evaluation.analysis import analyse
from svllreid.evaluation.ranking.measures import evaluate_features
from svllreid.jobs.benching import measure_step, stage1_step, stage2_step, test_step
from svllreid.jobs.predicted_files import RunFiles, copied_per_second, written_per_second
from svllreid.jobs.run_folder import output_dir
from svllreid.models.reid import SVLLReID
from svllreid.runtime.progress import LiveReport
from svllreid.types import Sample

IMAGE_SIZE = (256, 128)  # of the JPEG files that are decoded, which are drawn
QUALITY = 90
BATCHES = 6  # that the loaders are timed over
CPU_SHARE = 10  # on a CPU one query in so many is ranked, and the time multiplied


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Args:
        name: what is done.
        amount: how often, such as `60 epochs of 509 steps`.
        seconds: of all of it.
        bound: what it waits for most: the network, images (decoding and augmenting), ranking or the disk.
    """

    name: str
    amount: str
    seconds: float
    bound: str


@dataclass(frozen=True)
class Prediction:
    """What a run would take.

    Args:
        parts: in the order of the run.
        memory: largest memory of the process (CPU) or of tensors (GPU), bytes; None where it is unknown.
        disk: bytes that the run leaves on the disk.
    """

    parts: tuple[Part, ...]
    memory: int | None
    disk: int

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(part.seconds for part in self.parts)


def predict(config: Config, dataset: str, device: str, console: Console | None = None) -> Prediction:
    """Predict both stages on a published dataset, with its published numbers of images, identities and cameras.

    Weights and images are random, identities have equally many images. Steps are timed as they would be run, compiled
    where they would be compiled; the time of compiling itself is a part of its own.

    Raises: ConfigError: a dataset without published counts. ReidError: the configuration does not fit the machine.
    """
    record = DATASETS.get(dataset)
    if record is None or record.published is None or record.published.query is None:
        known = [name for name, one in DATASETS.items() if one.published and one.published.query is not None]
        raise ConfigError(
            f"--whole {dataset}: the counts of its images are not known; choose one of {', '.join(known)}"
        )
    data = config.datasets.model_copy(update={"names": dataset, "noun": config.datasets.noun or record.noun})
    model = config.model.model_copy(update={"pretrained": "random"})
    config = config.model_copy(update={"datasets": data, "model": model})
    fabric = build.build_fabric(config, device)
    with LiveReport(console or Console(stderr=True)) as report, tempfile.TemporaryDirectory() as folder:
        return _Predictor(config, record.published, fabric, report, Path(folder)).predict()


class _Predictor:
    """Measures one configuration and puts the parts together."""

    def __init__(self, config: Config, counts: Published, fabric: Fabric, report: LiveReport, folder: Path) -> None:
        self.config, self.counts, self.fabric, self.report = config, counts, fabric, report
        self.images = counts.train_images[1]
        self.queries, self.gallery = counts.query or 0, counts.gallery or 0
        self.on_gpu = fabric.device.type == "cuda"
        self.samples = draw_images(folder, 4 * config.dataloader.num_instance * _IDENTITIES)

    def predict(self) -> Prediction:
        """Measure, and predict every part."""
        config, solver = self.config, self.config.solver
        text = config.model.use_text
        network = {
            name: self._timed(name, make, size)
            for name, make, size in (
                ("stage 1", stage1_step, solver.stage1.ims_per_batch),
                ("test", test_step, config.test.ims_per_batch),
                ("stage 2", stage2_step, solver.stage2.ims_per_batch),
            )
            if text or name != "stage 1"
        }
        loading = {"test": self._test_images(), "stage 2": self._train_images()}
        ranking, analysis = self._ranking()
        model = _model(config, self.counts)
        parts, epoch_seconds = [], {}
        if text:
            parts.append(self._embedding("stage 1: image features", self.images, network, loading))
            parts += self._stage("stage 1", self._stage1_steps(), solver.stage1.max_epochs, network, {})
            epoch_seconds["stage 1"] = parts[-1].seconds / solver.stage1.max_epochs
        parts += self._stage("stage 2", self._stage2_steps(), solver.stage2.max_epochs, network, loading)
        epoch_seconds["stage 2"] = parts[-1].seconds / solver.stage2.max_epochs
        epochs, period = solver.stage2.max_epochs, solver.stage2.eval_period
        evaluations = len({*range(period, epochs + 1, period), epochs})
        embedded = self._embedding("evaluations", evaluations * (self.queries + self.gallery), network, loading)
        parts.append(replace(embedded, amount=f"{evaluations} evaluations, {embedded.amount}"))
        seconds = ranking * (evaluations - 1) + analysis
        parts.append(Part("ranking", f"{evaluations} of {self.queries} x {self.gallery}", seconds, "ranking"))
        files = RunFiles.of(model, config)
        copying, writing = copied_per_second(self.fabric.device), written_per_second(output_dir(config))
        seconds = files.waited(epoch_seconds, copying, writing)
        parts.append(Part("waiting for states and checkpoints", _gigabytes(files.written), seconds, "the disk"))
        memory = self.memory
        if memory is not None and not self.on_gpu:
            memory += files.largest_state  # its copy, while it is written
        return Prediction(tuple(parts), memory, files.left + self.images * model.image_encoder.proj_dim * 4)

    def _timed(self, name: str, make: Callable[[Config, Fabric, int], Callable[[], None]], size: int) -> _Step:
        """Seconds an image and of the first step; on a CPU from a small batch, as time grows with the images there."""
        least = 2 * self.config.dataloader.num_instance
        measured_size = size if self.on_gpu or name == "stage 1" else min(size, least)
        with self.report.counting(f"measuring {name}", 4) as count:
            step = measure_step(name, make(self.config, self.fabric, measured_size), measured_size, self.fabric, count)
        self.memory = step.memory
        return _Step(1 / step.images_per_second, step.first_seconds)

    def _stage1_steps(self) -> int:
        batch, seed = self.config.solver.stage1.ims_per_batch, self.config.solver.seed
        return len(permuted_batches(self.images, batch, seed, 1))

    def _stage2_steps(self) -> int:
        labels = np.arange(self.images) % self.counts.train_ids
        settings = self.config.solver.stage2.ims_per_batch, self.config.dataloader.num_instance
        return len(PKSampler(labels.tolist(), *settings, self.config.solver.seed).epoch_batches(1))

    def _stage(
        self, name: str, steps: int, epochs: int, network: dict[str, _Step], loading: dict[str, float]
    ) -> list[Part]:
        """The steps of a stage, and what its first step takes longer where it is compiled."""
        stage = self.config.solver.stage1 if name == "stage 1" else self.config.solver.stage2
        seconds, bound = self._together(network[name].seconds, loading.get(name, 0.0))
        images = steps * epochs * stage.ims_per_batch
        parts = [Part(name, f"{epochs} epochs of {steps} steps", images * seconds, bound)]
        compiling = network[name].first - stage.ims_per_batch * network[name].seconds
        if self.on_gpu and compiling > 5:
            parts.insert(0, Part(f"{name}: compiling", "once", compiling, "the compiler"))
        return parts

    def _embedding(self, name: str, images: int, network: dict[str, _Step], loading: dict[str, float]) -> Part:
        seconds, bound = self._together(network["test"].seconds, loading["test"])
        return Part(name, f"{images:,} images", images * seconds, bound)

    def _together(self, network: float, loading: float) -> tuple[float, str]:
        """Seconds an image: a GPU works while images are loaded, a CPU does both with the same cores."""
        seconds = max(network, loading) if self.on_gpu else network + loading
        return seconds, "the network" if network >= loading else "loading images"

    def _train_images(self) -> float:
        """Seconds until the loader has the next image of stage 2, augmented copies made."""
        config = self.config.model_copy(
            update={"dataloader": self.config.dataloader.model_copy(update={"cache": "none"})}
        )
        data = build.TrainingData.of(self.samples)
        size = config.dataloader.num_instance * _IDENTITIES
        sampler = PKSampler(data.numbers, size, config.dataloader.num_instance, config.solver.seed)
        sampler.set_epoch(1, last=1 + 2 * BATCHES)
        to_device = build.build_to_device(config, self.fabric)
        loader = build.build_train_loader(config, data, sampler, self.fabric)
        return self._seconds_an_image("loading of stage 2", (to_device(batch) for batch in batches(loader)), size)

    def _test_images(self) -> float:
        """Seconds until the loader has the next test image."""
        size = min(self.config.test.ims_per_batch, len(self.samples))
        test = self.config.test.model_copy(update={"ims_per_batch": size})
        repeated = self.samples * -(-2 * size * BATCHES // len(self.samples))
        loader = build.build_test_loader(self.config.model_copy(update={"test": test}), repeated, self.fabric)
        return self._seconds_an_image("loading of tests", batches(loader), size)

    def _seconds_an_image(self, text: str, loaded: Iterable[Any], size: int) -> float:
        """Over BATCHES batches, after as many that fill the queues of the workers."""
        with self.report.counting(f"measuring {text}", 2 * BATCHES) as count:
            start = time.perf_counter()
            for number, _ in enumerate(islice(loaded, 2 * BATCHES)):
                count(1)
                if number == BATCHES - 1:
                    start = time.perf_counter()
        return (time.perf_counter() - start) / (BATCHES * size)

    def _ranking(self) -> tuple[float, float]:
        """Seconds to rank the test set, and to analyse it as at the end of a run."""
        share = 1 if self.on_gpu else CPU_SHARE
        encoder = _model(self.config, self.counts).image_encoder
        dim, draw = encoder.final_dim + encoder.proj_dim, torch.Generator().manual_seed(0)
        counts = max(2, self.queries // share), self.gallery
        features = [torch.nn.functional.normalize(torch.randn(count, dim, generator=draw)) for count in counts]
        # As many test identities as training ones, about as the published sets have.
        labels = [torch.randint(self.counts.train_ids, (count,), generator=draw).numpy() for count in counts]
        cameras = [torch.randint(self.counts.cameras, (count,), generator=draw).numpy() for count in counts]
        arguments, times = (*features, *labels, *cameras), []
        device = self.fabric.device if self.on_gpu else None
        for function in (evaluate_features, partial(analyse, cameras=True)):
            with self.report.tracking("measuring ranking") as progress:
                start = time.perf_counter()
                function(*arguments, device=device, progress=progress)
                times.append((time.perf_counter() - start) * share)
        return times[0], times[1]


_IDENTITIES = 8


@dataclass(frozen=True)
class _Step:
    """Seconds an image, and seconds of the first step, in which a stage is compiled."""

    seconds: float
    first: float


def _model(config: Config, counts: Published) -> SVLLReID:
    return build.build_model(config, num_classes=counts.train_ids, num_cameras=counts.cameras)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def draw_images(folder: Path, count: int) -> tuple[Sample, ...]:
    """JPEG files of about a photograph's size: smooth colours with some noise; _IDENTITIES people on two cameras."""
    random = np.random.default_rng(0)
    samples = []
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, (16, 8, 3), np.uint8))
        large = np.asarray(small.resize(IMAGE_SIZE[::-1], Image.Resampling.BICUBIC), np.int16)
        noisy = (large + random.integers(-12, 13, large.shape)).clip(0, 255).astype(np.uint8)
        path = folder / f"{number:05d}.jpg"
        Image.fromarray(noisy).save(path, quality=QUALITY)
        samples.append(Sample(path, number % _IDENTITIES, number % 2))
    return tuple(samples)

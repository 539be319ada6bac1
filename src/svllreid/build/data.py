"""Datasets, samplers, loaders."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.utils.data import DataLoader

from svllreid.config import Config
from svllreid.config.schema import Datasets
from svllreid.data import readers
from svllreid.data.cache import CacheSpec
from svllreid.data.datasets import ImageDataset, TrainDataset, Transform, training_labels
from svllreid.data.device_augment import DeviceAugment, ResizedBatch, ResizeOnly
from svllreid.data.fingerprint import listings
from svllreid.data.loader import make_loader
from svllreid.data.samplers import PKSampler
from svllreid.data.transforms import TestTransform, TrainTransform
from svllreid.errors import ConfigError, DatasetError
from svllreid.files import user_path
from svllreid.models.checkpoint import CheckpointInfo
from svllreid.runtime.caches import cache_folder
from svllreid.runtime.gather import num_processes, process_rank
from svllreid.types import PERSON, Batch, Origin, Pid, Sample, SideRows, Splits


def load_dataset(name: str, root: str | Path) -> Splits:
    """The splits of a dataset; DatasetError where it is unknown or cannot be read.

    Example:
        >>> from pathlib import Path
        >>> import svllreid
        >>> for name in ("train/ann", "train/bob", "query/eve", "gallery/eve"):
        ...     Path("people", name).mkdir(parents=True)
        ...     Path("people", name, f"{name[0]}.jpg").touch()  # no pixel is read
        >>> splits = svllreid.load_dataset("folder", "people")
        >>> [sample.pid for sample in splits.train], len(splits.query), len(splits.gallery)
        (['ann', 'bob'], 1, 1)
    """
    return readers.read(name, user_path(root))


def build_splits(config: Config) -> Splits:
    """The splits that the configuration names: several training sets joined, some training identities held out."""
    parts = [_read(config, entry) for entry in entries(config.datasets.names)]
    joined = readers.join(parts)
    splits = replace(joined, noun=config.datasets.noun or joined.noun)
    share = config.datasets.val_identities
    return readers.hold_out(splits, share, config.solver.seed) if share else splits


def noun_notes(config: Config) -> list[str]:
    """Notes for the log where DATASETS.NOUN differs from a published dataset's own noun; none without prompts.

    Raises: ConfigError: people and vehicles are trained on jointly, and no DATASETS.NOUN says what to call them.
    """
    names = dict.fromkeys(entry.partition(":")[0] for entry in entries(config.datasets.names))
    nouns = {name: readers.dataset(name).noun for name in names}
    listed = ", ".join(f"{noun} for {name}" for name, noun in nouns.items())
    chosen = config.datasets.noun
    if not config.model.use_text:
        return []
    if not chosen:
        raise ConfigError(
            f"DATASETS.NAMES joins datasets of different nouns ({listed}), and all prompts say the same one; set "
            "DATASETS.NOUN, for example DATASETS.NOUN object"
        )
    if any(noun != chosen for name, noun in nouns.items() if readers.dataset(name).published):
        return [f"every prompt says {chosen}, as DATASETS.NOUN does; without it: {listed}"]
    return []


def build_test_splits(config: Config) -> list[Splits]:
    """The splits to test on: those of DATASETS.TEST, or else what `build_splits` gives."""
    tested = entries(config.datasets.test)
    if not tested:
        return [build_splits(config)]
    if config.datasets.val_identities:
        raise ConfigError(
            "DATASETS.VAL_IDENTITIES holds training identities out so that test sets stay unseen, and DATASETS.TEST "
            "names test sets; set one of the two"
        )
    return [_read(config, entry) for entry in tested]


def entries(names: str | Sequence[str]) -> tuple[str, ...]:
    """DATASETS.NAMES or DATASETS.TEST, one or several, as a tuple.

    >>> entries("market1501"), entries(("veri", "folder:/data/mine"))
    (('market1501',), ('veri', 'folder:/data/mine'))
    """
    return tuple(filter(None, (names,) if isinstance(names, str) else names))


def origin_name(datasets: Datasets, entry: str) -> str:
    """A published dataset's name; of a user's own data also its place."""
    name, _, place = entry.partition(":")
    if name in readers.DATASETS and readers.DATASETS[name].published:
        return name
    return f"{name}:{user_path(place or datasets.root_dir).resolve()}"


def trained_on(config: Config, info: CheckpointInfo | None) -> Origin:
    """The first dataset that a checkpoint was trained on, whose cameras its side information knows.

    Args:
        config: the configuration of the training, as far as it is known.
        info: the content of the checkpoint's .json file; None without one.
    """
    name = origin_name(config.datasets, entries(config.datasets.names)[0])
    return Origin(name, {} if info is None else info.listings)


def _read(config: Config, entry: str) -> Splits:
    """The splits of `name` in ROOT_DIR, or of `name:place`."""
    name, _, place = entry.partition(":")
    record, views = readers.dataset(name), config.datasets.veri_views
    options = {
        "noun": config.datasets.noun or PERSON,
        "views_dir": user_path(views) if views else None,
        "drop_unlabelled_test": config.test.veri_drop_unlabelled,
    }
    root = user_path(place or config.datasets.root_dir)
    splits = readers.read(name, root, **{option: options[option] for option in record.options})
    listed = {} if record.published else listings(splits)
    return replace(splits, origin=Origin(origin_name(config.datasets, entry), listed))


@dataclass(frozen=True)
class TrainingData:
    """What training takes from a dataset's training split."""

    samples: tuple[Sample, ...]
    labels: dict[Pid, int]
    side_rows: SideRows
    origin: Origin

    @classmethod
    def of(
        cls, samples: Sequence[Sample], side_rows: SideRows | None = None, origin: Origin | None = None
    ) -> TrainingData:
        """Matches in sorted pid order, and rows of side information: those given, or one for each camera and view."""
        if not samples:
            raise DatasetError("the training split is empty; check DATASETS.ROOT_DIR and the split's folder or rows")
        rows = SideRows.of(samples) if side_rows is None else side_rows
        return cls(tuple(samples), training_labels(samples), rows, origin or Origin())

    @property
    def numbers(self) -> list[int]:
        """The label of each sample."""
        return [self.labels[sample.pid] for sample in self.samples]


def build_sampler(config: Config, data: TrainingData) -> PKSampler:
    """Stage 2's P x K batches; DatasetError where the training set is too small for one."""
    return PKSampler(
        data.numbers,
        config.solver.stage2.ims_per_batch,
        config.dataloader.num_instance,
        config.solver.seed,
        process_rank(),
        num_processes(),
    )


def build_train_loader(config: Config, data: TrainingData, sampler: PKSampler, fabric: Fabric) -> DataLoader[Any]:
    """Stage 2's batches, which `build_to_device` takes: augmented images, or images that it augments on the device."""
    later = config.input.augment_on == "device"
    transform: Transform = ResizeOnly(config.input.size_train) if later else TrainTransform(**_augmentation(config))
    spec = build_cache_spec(config, data)
    cache = None if spec is None else spec.open()
    dataset = TrainDataset(data.samples, data.labels, transform, cache, data.side_rows)
    batch_type = ResizedBatch if later else Batch
    return make_loader(
        dataset, workers=_workers(config), pin=_on_gpu(fabric), batch_type=batch_type, batch_sampler=sampler
    )


def build_to_device(config: Config, fabric: Fabric) -> Callable[[Any], Batch]:
    """The function that moves a batch of `build_train_loader` to the device and augments it there if needed."""
    if config.input.augment_on == "device":
        return DeviceAugment(fabric.device, **_augmentation(config))
    return lambda batch: batch.to(fabric.device)


def build_cache_spec(config: Config, data: TrainingData) -> CacheSpec | None:
    """Where decoded training images are kept; None where they are not."""
    options = config.dataloader
    if options.cache == "none":
        return None
    folder = user_path(options.cache_dir) if options.cache_dir else cache_folder() / "images"
    paths = tuple(sample.path for sample in data.samples)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return CacheSpec(options.cache, paths, config.input.size_train, folder, _workers(config) > 0, processes)


def _augmentation(config: Config) -> dict[str, Any]:
    """The arguments of TrainTransform, and of DeviceAugment."""
    inputs = config.input
    return {
        "size": inputs.size_train,
        "mean": inputs.pixel_mean,
        "std": inputs.pixel_std,
        "flip": inputs.prob,
        "padding": inputs.padding,
        "erase": inputs.re_prob,
        "max_area": inputs.re_max_area,
        "augmented": 2 if config.model.use_ssl else 0,
    }


def build_test_loader(
    config: Config, samples: Sequence[Sample], fabric: Fabric, side_rows: SideRows | None = None
) -> DataLoader[Any]:
    """Batches of test images, in their order.

    Args:
        config: the configuration.
        samples: the images.
        fabric: whose device the batches go to.
        side_rows: rows of side information of the model that embeds them; None: without side information.
    """
    dataset = ImageDataset(samples, build_test_transform(config).resize, side_rows)
    batch_size = config.test.ims_per_batch
    workers = 0 if len(samples) <= 4 * batch_size else _workers(config)
    return make_loader(dataset, workers=workers, pin=_on_gpu(fabric), batch_size=batch_size)


def build_test_transform(config: Config) -> TestTransform:
    """The transform of test images; ConfigError where their size is not the one trained with."""
    if config.input.size_train != config.input.size_test:
        sizes = [list(size) for size in (config.input.size_train, config.input.size_test)]
        raise ConfigError(
            f"INPUT.SIZE_TRAIN {sizes[0]} and INPUT.SIZE_TEST {sizes[1]} differ, and position embeddings fit one size; "
            "set both the same"
        )
    return TestTransform(config.input.size_test, config.input.pixel_mean, config.input.pixel_std)


def _workers(config: Config) -> int:
    return min(config.dataloader.num_workers, torch.multiprocessing.cpu_count())


def _on_gpu(fabric: Fabric) -> bool:
    return fabric.device.type == "cuda"

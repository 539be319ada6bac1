"""Composition root: the only file that turns a Config into objects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.utils.data import DataLoader

from svllreid.config import Config, from_tree
from svllreid.data import readers
from svllreid.data.dataset import ImageDataset, TrainDataset, label_of, loader
from svllreid.data.samplers import PKSampler
from svllreid.data.transforms import TestTransform, TrainTransform
from svllreid.errors import CheckpointError, ConfigError, DatasetError, DeviceError
from svllreid.evaluation.rerank import RerankOptions
from svllreid.models.checkpoint import (
    CLASSIFIERS,
    HEADS,
    TEXT,
    CheckpointInfo,
    describe,
    fit_checkpoint,
    read_checkpoint,
)
from svllreid.models.clip import State, architecture_of, load_clip
from svllreid.models.prompts import PromptAugmentation
from svllreid.models.reid import SVLLReID
from svllreid.retrieval.encoder import FeatureEncoder
from svllreid.training.stage1 import Stage1Task
from svllreid.training.stage2 import LossWeights, Stage2Task
from svllreid.types import Pid, Sample, Splits

logger = logging.getLogger(__name__)

VERI_VIEWS = 8
PRECISIONS: dict[str, Any] = {"32": "32-true", "16-mixed": "16-mixed", "bf16-mixed": "bf16-mixed"}


def build_model(
    config: Config, *, num_classes: int, num_cameras: int = 1, num_views: int = 1, clip: str | State | None = None
) -> SVLLReID:
    """The network of a configuration, on the CPU; the same seed gives the same weights.

    Args:
        config: the run's configuration.
        num_classes: training identities.
        num_cameras, num_views: rows of the side information table, where one is learned.
        clip: CLIP's weights: None takes MODEL.PRETRAINED; or `openai`, an open_clip tag, a file, `random`, or a state
            dict in OpenAI's layout.
    Raises: ConfigError, CheckpointError: see `load_clip`.
    """
    model = config.model
    # A checkpoint's weights go into a model built from `random`: its activation is that of the weights it began with.
    activation_of = clip if isinstance(clip, str) and clip != "random" else model.pretrained
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.solver.seed)
        return SVLLReID(
            load_clip(model.name, model.pretrained if clip is None else clip, activation_of),
            num_classes=num_classes,
            num_cameras=num_cameras,
            num_views=num_views,
            image_size=config.input.size_train,
            stride=model.stride_size,
            sie_camera=model.sie_camera,
            sie_view=model.sie_view,
            sie_coe=model.sie_coe,
            noun=config.datasets.noun,
            use_text=model.use_text,
            language_head=model.use_text and model.use_ssl_stage1,
            vision_head=model.ssl_type if model.use_ssl else None,
            ssl_hidden_dim=model.ssl_hidden_dim or 4096,
            ssl_out_dim=model.ssl_out_dim or 256,
        )


def build_stage1(config: Config, model: SVLLReID) -> Stage1Task:
    """Stage 1's task."""
    stage = config.solver.stage1
    augment = PromptAugmentation(stage.prompt_aug_method, stage.prompt_aug_scale)
    used = augment if config.model.use_ssl_stage1 else None
    return Stage1Task(model, used, stage.ssl_loss_weight, stage.train_ssl_head)


def build_stage2(config: Config, model: SVLLReID) -> Stage2Task:
    """Stage 2's task; encodes every prompt once."""
    weights = LossWeights(
        config.model.id_loss_weight,
        config.model.triplet_loss_weight,
        config.model.i2t_loss_weight,
        config.solver.stage2.ssl_loss_weight,
    )
    margin = None if config.model.no_margin else config.solver.margin
    return Stage2Task(model, weights, margin, config.model.if_labelsmooth == "on", config.model.use_ssl)


def load_dataset(name: str, root: str | Path) -> Splits:
    """The splits of a dataset; DatasetError where it is unknown or cannot be read."""
    return readers.read(name, Path(root).expanduser())


def build_splits(config: Config) -> Splits:
    """The splits that the configuration names: several training sets joined, some training identities held out."""
    splits = readers.join([_read(config, entry) for entry in entries(config.datasets.names)])
    share = config.datasets.val_identities
    return readers.hold_out(splits, share, config.solver.seed) if share else splits


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
    """DATASETS.NAMES or DATASETS.TEST, one or several, as a tuple."""
    return tuple(filter(None, (names,) if isinstance(names, str) else names))


def _read(config: Config, entry: str) -> Splits:
    """The splits of `name` in ROOT_DIR, or of `name:place`."""
    name, _, place = entry.partition(":")
    options: dict[str, Any] = {}
    if name == "veri":
        views = config.datasets.veri_views
        options["views_dir"] = Path(views).expanduser() if views else None
        options["drop_unlabelled_test"] = config.test.veri_drop_unlabelled
    return readers.read(name, Path(place or config.datasets.root_dir).expanduser(), **options)


@dataclass(frozen=True)
class TrainingData:
    """What training takes from a dataset's training split."""

    samples: tuple[Sample, ...]
    labels: dict[Pid, int]
    num_cameras: int
    num_views: int

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> TrainingData:
        """Labels in sorted pid order; cameras and views counted by their largest id."""
        if not samples:
            raise DatasetError("the training split is empty; check DATASETS.ROOT_DIR and the split's folder or rows")
        cameras, views = (1 + max(getattr(s, name) for s in samples) for name in ("camid", "viewid"))
        return cls(tuple(samples), label_of(samples), max(1, cameras), max(1, views))

    @property
    def numbers(self) -> list[int]:
        """The label of each sample."""
        return [self.labels[sample.pid] for sample in self.samples]


def build_model_for(config: Config, data: TrainingData, clip: str | None = None) -> SVLLReID:
    """The network with classifiers, prompts and side information for this training data; see `build_model`."""
    return build_model(
        config, num_classes=len(data.labels), num_cameras=data.num_cameras, num_views=data.num_views, clip=clip
    )


def build_sampler(config: Config, data: TrainingData) -> PKSampler:
    """Stage 2's P x K batches; DatasetError where the training set is too small for one."""
    return PKSampler(
        data.numbers, config.solver.stage2.ims_per_batch, config.dataloader.num_instance, config.solver.seed
    )


def build_train_loader(config: Config, data: TrainingData, sampler: PKSampler, fabric: Fabric) -> DataLoader[Any]:
    """Stage 2's batches of augmented images, with both views where self-supervision is on."""
    inputs = config.input
    transform = TrainTransform(
        inputs.size_train,
        inputs.pixel_mean,
        inputs.pixel_std,
        flip=inputs.prob,
        padding=inputs.padding,
        erase=inputs.re_prob,
        max_area=inputs.re_max_area or 1 / 3,
        views=2 if config.model.use_ssl else 0,
    )
    dataset = TrainDataset(data.samples, data.labels, transform)
    return loader(dataset, workers=_workers(config), pin=_on_gpu(fabric), batch_sampler=sampler)


def build_test_loader(config: Config, samples: Sequence[Sample], fabric: Fabric) -> DataLoader[Any]:
    """Images to be embedded, in order."""
    dataset = ImageDataset(samples, build_test_transform(config))
    batch_size = config.test.ims_per_batch
    workers = 0 if len(samples) <= 4 * batch_size else _workers(config)
    return loader(dataset, workers=workers, pin=_on_gpu(fabric), batch_size=batch_size)


def build_test_transform(config: Config) -> TestTransform:
    """The transform of test images; ConfigError where their size is not the one trained with."""
    if config.input.size_train != config.input.size_test:
        sizes = [list(size) for size in (config.input.size_train, config.input.size_test)]
        raise ConfigError(
            f"INPUT.SIZE_TRAIN {sizes[0]} and INPUT.SIZE_TEST {sizes[1]} differ, and position embeddings fit one size; "
            "set both the same"
        )
    return TestTransform(config.input.size_test, config.input.pixel_mean, config.input.pixel_std)


def build_rerank(config: Config) -> RerankOptions | None:
    """Re-ranking with the published k1 50, k2 15, lambda 0.3, where it is on."""
    return RerankOptions() if config.test.re_ranking else None


def build_fabric(config: Config, device: str = "auto") -> Fabric:
    """Device and arithmetic; DeviceError where the device is not there."""
    there = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    indexed = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if device == "auto":
        device = there[0]
    kind, _, index = device.partition(":")
    if device not in there and device not in indexed:
        found = ", ".join([*indexed, *there])
        raise DeviceError(f"--device {device}: not on this machine, which has {found}; choose one of these, or auto")
    precision = config.solver.precision
    if precision == "auto":
        precision = "16-mixed" if kind == "cuda" else "32"
    return Fabric(accelerator=kind, devices=[int(index)] if index else 1, precision=PRECISIONS[precision])


def load_trained(path: str | Path, config: Config | None = None) -> tuple[SVLLReID, Config, CheckpointInfo | None]:
    """A trained model for testing: image encoder, side information and necks; nothing is fetched.

    Args:
        path: a checkpoint of ours or a published one.
        config: the configuration; None takes the one beside the checkpoint.
    Returns: the model, the configuration used, and what the file beside the checkpoint says (None without one).
    Raises: CheckpointError: not a checkpoint, of another backbone, or no configuration to be had.
    """
    state, info = read_checkpoint(path)
    if config is None:
        if info is None:
            raise CheckpointError(
                f"{path} has no .json beside it that says how it was trained; give a configuration (--config-file, or "
                "config=load_config(...)) with its MODEL.NAME, MODEL.STRIDE_SIZE, MODEL.SIE_CAMERA, MODEL.SIE_VIEW, "
                f"MODEL.SIE_COE and INPUT.SIZE_TRAIN; its shapes tell {describe(state)}"
            )
        config = from_tree(info.config, str(path))
    testing = config.model_copy(
        update={"model": config.model.model_copy(update={"use_text": False, "use_ssl": False, "use_ssl_stage1": False})}
    )
    num_cameras, num_views = _table_sizes(state, config, str(path), info)
    model = build_model(testing, num_classes=1, num_cameras=num_cameras, num_views=num_views, clip="random")
    fit_checkpoint(model, state, str(path), skip=(*CLASSIFIERS, *TEXT, *HEADS))
    if "classifier.weight" in state:
        trained_on = f" of {info.config['DATASETS']['NAMES']}" if info is not None else ""
        identities = len(state["classifier.weight"])
        logger.info(
            "%s: the classifiers of its %d identities%s are left out, as are its prompts", path, identities, trained_on
        )
    return model, config, info


def _table_sizes(state: State, config: Config, origin: str, info: CheckpointInfo | None) -> tuple[int, int]:
    """Cameras and views of the side information table."""
    camera, view = config.model.sie_camera, config.model.sie_view
    resnet = isinstance(architecture_of(config.model.name)["vision_cfg"]["layers"], list)
    if resnet != ("image_encoder.attnpool.positional_embedding" in state):
        return 1, 1  # another backbone, which fitting the weights will explain
    if ("cv_embed" in state) != (camera or view):
        has, switch = ("has", "true") if "cv_embed" in state else ("has no", "false")
        raise CheckpointError(f"{origin} {has} side information; set MODEL.SIE_CAMERA or MODEL.SIE_VIEW to {switch}")
    if info is not None:
        return info.num_cameras, info.num_views
    rows = len(state["cv_embed"]) if "cv_embed" in state else 1
    if camera and view:
        if rows % VERI_VIEWS:
            raise CheckpointError(
                f"{origin}: {rows} rows of side information are no multiple of VeRi's {VERI_VIEWS} views, and no .json "
                "says how many cameras and views there are; set one of MODEL.SIE_CAMERA and MODEL.SIE_VIEW to false"
            )
        return rows // VERI_VIEWS, VERI_VIEWS
    return (rows, 1) if camera else (1, rows)


class Encoder(FeatureEncoder):
    """A trained model that turns images into features: `Encoder.load(path).encode(images)`."""

    @classmethod
    def load(cls, path: str | Path, config: Config | None = None, device: str = "auto") -> Encoder:
        """The encoder in a checkpoint.

        Args:
            path: a checkpoint of ours, or a published one with its configuration.
            config: None takes the configuration beside the checkpoint.
            device: auto, cpu, cuda, cuda:1, mps.
        Raises: CheckpointError, ConfigError, DeviceError.
        """
        model, config, _ = load_trained(path, config)
        return cls(
            model,
            build_test_transform(config),
            build_fabric(config, device).device,
            after_neck=config.test.neck_feat == "after",
            batch_size=config.test.ims_per_batch,
        )


def _workers(config: Config) -> int:
    return min(config.dataloader.num_workers, torch.multiprocessing.cpu_count())


def _on_gpu(fabric: Fabric) -> bool:
    return fabric.device.type == "cuda"

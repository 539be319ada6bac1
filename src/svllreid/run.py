"""The two jobs over what `build` makes: train and test."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.fabric import Fabric
from rich.console import Console
from torch import Tensor

import svllreid
from svllreid import build
from svllreid.config import Config, from_tree, load_config
from svllreid.data.dataset import batches, readable
from svllreid.data.samplers import permuted_batches
from svllreid.errors import CheckpointError, ConfigError, DatasetError
from svllreid.evaluation.features import extract
from svllreid.evaluation.protocols import Outcome, evaluate_split, nearest_of
from svllreid.files import write_json, write_text
from svllreid.models.checkpoint import HEADS, TEXT, CheckpointInfo, fit_checkpoint, read_checkpoint, read_info, save_checkpoint
from svllreid.models.reid import SVLLReID
from svllreid.training.loop import StagePlan, run_stage
from svllreid.training.optim import adam
from svllreid.training.report import LiveReport, logging_to
from svllreid.training.schedule import cosine_lr, step_lr
from svllreid.training.state import Progress
from svllreid.types import UNKNOWN, Batch, Sample, Splits
from svllreid.viz.ranklist import draw_ranklist

logger = logging.getLogger(__name__)

# Keys that may differ when a run is continued: they do not change what is learned.
FREE_KEYS = ("OUTPUT_DIR", "DATASETS.ROOT_DIR", "DATALOADER.NUM_WORKERS", "TEST.", "LOG_PERIOD", "CHECKPOINT_PERIOD", "EVAL_PERIOD")
# Published code numbers these in an order that differs from the sorted one.
UNSORTED_WHEN_PUBLISHED = ("dukemtmc", "occ_duke")
ROWS_OF_PICTURE = 10


@dataclass(frozen=True)
class Options:
    """What the command line says beside the configuration.

    Args:
        device: auto, cpu, cuda, cuda:1, mps.
        stage: 1 or 2 alone, None both.
        stage1_weights: a stage-1 file to start stage 2 from; None: the one in OUTPUT_DIR.
        fresh: start over in an OUTPUT_DIR that holds a run.
        allow_config_change: continue under another configuration.
        skip_unreadable: leave out images that cannot be read, counted.
    """

    device: str = "auto"
    stage: int | None = None
    stage1_weights: Path | None = None
    fresh: bool = False
    allow_config_change: bool = False
    skip_unreadable: bool = False


def output_dir(config: Config) -> Path:
    """Where a training run's files go."""
    if config.output_dir:
        return Path(config.output_dir).expanduser()
    names = config.datasets.names
    return Path("outputs") / f"{names if isinstance(names, str) else '+'.join(names)}_{config.model.name}"


def train(config: Config, options: Options = Options(), console: Console | None = None) -> dict[str, Any] | None:
    """Train stage 1, then stage 2 with evaluation; continue or stop where OUTPUT_DIR holds the same run.

    Returns: the metrics of the last epoch; None where stage 2 was not asked for or there is nothing to test on.
    Raises: ReidError: anything the user can mend.
    """
    console = console or Console(stderr=True)
    folder = output_dir(config)
    if options.fresh:
        _clear(folder, config.model.name)
    _check_same_run(folder, config, options)
    write_text(folder / "config.yml", yaml.safe_dump(config.to_yaml_tree(), sort_keys=False))
    with logging_to(folder / "log.txt", console), LiveReport(console, folder) as report:
        return TrainingRun(config, options, folder, report).run()


class TrainingRun:
    """One training run in its OUTPUT_DIR."""

    def __init__(self, config: Config, options: Options, folder: Path, report: LiveReport) -> None:
        self.options, self.folder, self.report = options, folder, report
        self.fabric = build.build_fabric(config, options.device)
        self.splits = _load_splits(config, options, report)
        self.data = build.TrainingData.of(self.splits.train)
        self.config = without_needless_sie(config, self.splits)
        self.name = config.model.name
        self.stages = _stages(self.config, options)
        self.sampler = build.build_sampler(self.config, self.data) if 2 in self.stages else None
        _check_cameras(self.config, self.splits, self.data.num_cameras, self.data.num_views)

    def run(self) -> dict[str, Any] | None:
        """Run the stages that are not finished yet."""
        todo = [stage for stage in self.stages if not self.final_file(stage).is_file()]
        for stage in set(self.stages) - set(todo):
            logger.info("stage %d is finished: %s", stage, self.final_file(stage))
        if todo:
            model = self.build_model(todo)
            logger.info("%s", self.summary(model))
            if 1 in todo:
                self.stage1(model)
            if 2 in todo:
                self.stage2(model)
        if 2 not in self.stages:
            logger.info("stage 1's prompts are in %s; continue with --stage 2", self.final_file(1))
            return None
        if not todo and (self.folder / "metrics.json").is_file():
            logger.info("this run is complete; --fresh starts over. Its numbers are in %s", self.folder / "metrics.json")
        return self.test_last()

    def final_file(self, stage: int) -> Path:
        """The checkpoint of a stage's last epoch."""
        return self.file(stage, (self.config.solver.stage1 if stage == 1 else self.config.solver.stage2).max_epochs)

    def file(self, stage: int, epoch: int) -> Path:
        """The checkpoint of an epoch, under its published name."""
        return self.folder / (f"{self.name}_stage1_{epoch}.pth" if stage == 1 else f"{self.name}_{epoch}.pth")

    def summary(self, model: SVLLReID) -> str:
        """One line about data, model and device."""
        parameters = sum(p.numel() for p in model.image_encoder.parameters()) / 1e6
        return (
            f"{self.splits.name}: {len(self.data.labels)} identities, {len(self.data.samples)} images, "
            f"{self.data.num_cameras} cameras; {self.name} with {parameters:.1f} million parameters on {self.fabric.device}"
        )

    def build_model(self, todo: list[int]) -> SVLLReID:
        """The model on its device: from CLIP, or for stage 2 alone from a stage-1 file, which holds CLIP's weights."""
        sizes = {
            "num_classes": len(self.data.labels),
            "num_cameras": self.data.num_cameras,
            "num_views": self.data.num_views,
        }
        if 1 in todo or not self.config.model.use_text:
            return build.build_model(self.config, **sizes).to(self.fabric.device)
        file = self.options.stage1_weights or self.final_file(1)
        if not file.is_file():
            raise CheckpointError(
                f"stage 2 needs stage 1's prompts, and there is no {file}; run stage 1 (--stage 1), or name its file "
                "with --stage1-weights"
            )
        state, info = read_checkpoint(file)
        self.check_identities(file, info)
        model = build.build_model(self.config, **sizes, clip="random")
        fit_checkpoint(model, state, str(file), skip=HEADS)
        logger.info("stage 1's prompts come from %s", file)
        return model.to(self.fabric.device)

    def check_identities(self, file: Path, info: CheckpointInfo | None) -> None:
        """Prompts belong to labels: refuse a stage-1 file whose identities are numbered otherwise."""
        if info is not None and info.pids != list(self.data.labels):
            raise CheckpointError(f"{file} has prompts of other identities than {self.splits.name}; run stage 1 on it")
        if info is None and self.splits.name in UNSORTED_WHEN_PUBLISHED:
            raise CheckpointError(
                f"{file} is a published stage-1 file of {self.splits.name}, whose identities are numbered in another order "
                "than the sorted one here, so its prompts would go to the wrong people; run stage 1 instead"
            )

    def stage1(self, model: SVLLReID) -> None:
        """Learn the prompts from cached image features."""
        stage, seed = self.config.solver.stage1, self.config.solver.seed
        features = self.image_features(model)
        labels = torch.tensor(self.data.numbers, device=self.fabric.device)
        task = build.build_stage1(self.config, model)

        def epoch_batches(epoch: int) -> tuple[int, Iterable[Sequence[Any]]]:
            plan = permuted_batches(len(features), stage.ims_per_batch, seed, epoch)
            generator = torch.Generator(self.fabric.device)
            generator.manual_seed(int(np.random.SeedSequence([seed, 1, epoch]).generate_state(1, np.uint64)[0] >> 1))
            indices = (torch.from_numpy(part).to(self.fabric.device) for part in plan)
            return len(plan), ((features[part], labels[part], generator) for part in indices)

        def after_epoch(epoch: int, progress: Progress) -> None:
            if epoch % stage.checkpoint_period == 0 or epoch == stage.max_epochs:
                self.save(model, 1, epoch)

        plan = StagePlan(
            stage=1,
            task=task,
            optimizer=adam(task.trained.items(), lr=stage.base_lr, weight_decay=stage.weight_decay),
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
            kept=lambda name: name.startswith(("prompt_learner.cls_ctx", "text_mlp.")),
            log_period=stage.log_period,
            after_epoch=after_epoch,
        )
        run_stage(self.fabric, plan, self.folder / "state" / "stage1.pt", self.report)

    def image_features(self, model: SVLLReID) -> Tensor:
        """`proj` (n, E) of the training images: test transform, eval mode, no side information."""
        model.eval()
        loader = build.build_test_loader(self.config, self.data.samples, self.fabric)
        with self.report.counting("stage 1: image features", len(self.data.samples)) as count, self.fabric.autocast():
            features = extract(
                lambda batch: model.encode_image(batch.images).proj, batches(loader), self.fabric.device, count
            )
        return features.to(self.fabric.device).clone()  # cloned: no inference tensor, autograd may keep it

    def stage2(self, model: SVLLReID) -> None:
        """Train the image encoder."""
        stage = self.config.solver.stage2
        task = build.build_stage2(self.config, model.eval())
        sampler = self.sampler or build.build_sampler(self.config, self.data)
        loader = build.build_train_loader(self.config, self.data, sampler, self.fabric)

        def epoch_batches(epoch: int) -> tuple[int, Iterable[Sequence[Any]]]:
            sampler.set_epoch(epoch)
            return len(sampler), ((batch.to(self.fabric.device),) for batch in batches(loader))

        def after_epoch(epoch: int, progress: Progress) -> None:
            last = epoch == stage.max_epochs
            if epoch % stage.checkpoint_period == 0 or last:
                self.save(model, 2, epoch)
            if (epoch % stage.eval_period == 0 or last) and self.splits.query and self.splits.gallery:
                metrics = evaluate(model, self.config, self.splits, self.fabric, self.report)[0].metrics
                self.report.scalars("eval", metrics, epoch)
                logger.info("epoch %d: %s", epoch, headline(metrics))
                if metrics["mAP"] > progress.best.get("mAP", -1.0):
                    progress.best_epoch, progress.best = epoch, metrics
                    self.save(model, 2, epoch, self.folder / f"{self.name}_best.pth")

        plan = StagePlan(
            stage=2,
            task=task,
            optimizer=adam(
                task.trained.items(),
                lr=stage.base_lr,
                weight_decay=stage.weight_decay,
                bias_lr_factor=stage.bias_lr_factor,
                weight_decay_bias=stage.weight_decay_bias,
            ),
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
            kept=lambda name: not name.startswith(TEXT),
            log_period=stage.log_period,
            after_epoch=after_epoch,
        )
        run_stage(self.fabric, plan, self.folder / "state" / "stage2.pt", self.report)

    def save(self, model: SVLLReID, stage: int, epoch: int, file: Path | None = None) -> None:
        """Write a checkpoint and what belongs to it."""
        info = CheckpointInfo(
            config=self.config.to_yaml_tree(),
            num_classes=len(self.data.labels),
            num_cameras=self.data.num_cameras,
            num_views=self.data.num_views,
            pids=list(self.data.labels),
            stage=stage,
            epoch=epoch,
            version=svllreid.__version__,
        )
        save_checkpoint(file or self.file(stage, epoch), model, info)

    def test_last(self) -> dict[str, Any] | None:
        """Test the last epoch's checkpoint, as published."""
        if not (self.splits.query and self.splits.gallery):
            logger.info("the dataset has no query and gallery, so nothing is tested; the model is %s", self.final_file(2))
            return None
        model, _, _ = build.load_trained(self.final_file(2), self.config)
        return report_test(model, self.config, self.splits, self.fabric, self.report, self.folder, self.final_file(2))


def test_config(config_file: Path | None, overrides: Sequence[str]) -> Config:
    """A test's configuration: of the file, or without one of the checkpoint that TEST.WEIGHT names."""
    config = load_config(config_file, overrides)
    if not config.test.weight:
        raise ConfigError("no checkpoint to test: set TEST.WEIGHT, for example TEST.WEIGHT outputs/run/ViT-B-16_60.pth")
    info = None if config_file else read_info(Path(config.test.weight).expanduser())
    return config if info is None else from_tree(info.config, config.test.weight, overrides)


def test(config: Config, options: Options = Options(), console: Console | None = None) -> dict[str, Any]:
    """Test the checkpoint TEST.WEIGHT: write metrics.json and the picture, return the metrics.

    Raises: ReidError: anything the user can mend.
    """
    path = Path(config.test.weight).expanduser()
    console = console or Console(stderr=True)
    model, config, info = build.load_trained(path, config)
    folder = Path(config.output_dir).expanduser() if config.output_dir else path.parent
    with logging_to(None, console), LiveReport(console, folder) as report:
        fabric = build.build_fabric(config, options.device)
        splits = _load_splits(config, options, report)
        for name, split in (("query", splits.query), ("gallery", splits.gallery)):
            if not split:
                raise DatasetError(f"{splits.name} in {config.datasets.root_dir} has an empty {name} split; nothing to test")
        config = without_needless_sie(config, splits, _trained_on(info))
        _check_cameras(config, splits, model.num_cameras, model.num_views)
        model.sie_camera, model.sie_view = config.model.sie_camera, config.model.sie_view
        return report_test(model, config, splits, fabric, report, folder, path)


def evaluate(
    model: SVLLReID, config: Config, splits: Splits, fabric: Fabric, report: LiveReport
) -> tuple[Outcome, Tensor, Tensor]:
    """Metrics of a model on query and gallery, and the features behind them."""
    model.to(fabric.device).eval()

    def embed(batch: Batch) -> Tensor:
        with fabric.autocast():
            return model.embed(
                batch.images,
                batch.camids,
                batch.viewids,
                after_neck=config.test.neck_feat == "after",
                normalize=config.test.feat_norm == "yes",
            )

    features = []
    for name, samples in (("query", splits.query), ("gallery", splits.gallery)):
        loader = build.build_test_loader(config, samples, fabric)
        with report.counting(f"features of {name}", len(samples)) as count:
            features.append(extract(embed, batches(loader), fabric.device, count))
    rerank = build.build_rerank(config)
    outcome = evaluate_split(*features, splits.query, splits.gallery, splits.protocol, rerank=rerank)
    return outcome, features[0], features[1]


def report_test(
    model: SVLLReID, config: Config, splits: Splits, fabric: Fabric, report: LiveReport, folder: Path, weight: Path
) -> dict[str, Any]:
    """Evaluate, then write metrics.json and ranklist.png."""
    outcome, q_feats, g_feats = evaluate(model, config, splits, fabric, report)
    metrics = {**outcome.metrics, "dataset": splits.name, "weight": str(weight)}
    write_json(folder / "metrics.json", metrics)
    precision = outcome.ranking.average_precisions
    worst = [int(row) for row in np.argsort(precision, kind="stable") if not np.isnan(precision[row])][:ROWS_OF_PICTURE]
    neighbours = nearest_of(worst, q_feats, g_feats, splits.query, splits.gallery, splits.protocol)
    draw_ranklist(
        folder / "ranklist.png",
        [splits.query[row] for row in worst],
        splits.gallery,
        neighbours.tolist(),
        [_caption(splits.query[row], precision[row], int(outcome.ranking.first_match_ranks[row])) for row in worst],
        f"{splits.name}, {headline(metrics)}: the {len(worst)} worst queries",
        _picture_size(config),
    )
    logger.info("%s", headline(metrics))
    logger.info("numbers: %s", folder / "metrics.json")
    logger.info("picture: %s", folder / "ranklist.png")
    return metrics


def headline(metrics: dict[str, Any]) -> str:
    """The numbers people ask for, in percent."""
    return f"mAP {100 * metrics['mAP']:.1f} %, rank-1 {100 * metrics['rank1']:.1f} %"


def without_needless_sie(config: Config, splits: Splits, trained_on: Sequence[str] | None = None) -> Config:
    """The configuration with side information switched off where nobody knows the camera or view, or on another dataset."""
    off: dict[str, bool] = {}
    foreign = trained_on is not None and splits.name not in trained_on
    everyone = [*splits.train, *splits.query, *splits.gallery]
    for key, attribute in (("sie_camera", "camid"), ("sie_view", "viewid")):
        if not getattr(config.model, key):
            continue
        if foreign:
            logger.info("MODEL.%s is switched off: camera ids mean nothing outside %s", key.upper(), ", ".join(trained_on or ()))
            off[key] = False
        elif all(getattr(sample, attribute) == UNKNOWN for sample in everyone):
            logger.info("MODEL.%s is switched off: %s does not say the %s of its images", key.upper(), splits.name, attribute[:-2])
            off[key] = False
    if not off:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update=off)})


def _picture_size(config: Config) -> tuple[int, int]:
    height, width = config.input.size_test
    return 128, max(1, round(128 * width / height))


def _caption(query: Sample, precision: float, first: int) -> str:
    camera = "" if query.camid == UNKNOWN else f"camera {query.camid + 1}, "
    return f"{query.pid}, {camera}AP {100 * precision:.0f} %, first match at rank {first}"


def _stages(config: Config, options: Options) -> list[int]:
    if config.model.use_text:
        return [options.stage] if options.stage else [1, 2]
    if options.stage == 1:
        raise ConfigError("--stage 1: the one-stage baseline (MODEL.USE_TEXT false) has no stage 1; leave --stage out")
    return [2]


def _trained_on(info: CheckpointInfo | None) -> tuple[str, ...] | None:
    if info is None:
        return None
    names = info.config["DATASETS"]["NAMES"]
    return (names,) if isinstance(names, str) else tuple(names)


def _load_splits(config: Config, options: Options, report: LiveReport) -> Splits:
    splits = build.build_splits(config)
    for note in splits.notes:
        logger.info("%s: %s", splits.name, note)
    if not options.skip_unreadable:
        return splits
    kept: dict[str, tuple[Sample, ...]] = {}
    for name in ("train", "query", "gallery"):
        samples = getattr(splits, name)
        with report.counting(f"checking {name}", len(samples)) as count:
            good, faults = readable(samples, count)
        if faults:
            logger.warning("%s: %d of %d images left out; first: %s", name, len(faults), len(samples), faults[0])
        kept[name] = tuple(good)
    return replace(splits, **kept)  # type: ignore[arg-type]


def _check_cameras(config: Config, splits: Splits, num_cameras: int, num_views: int) -> None:
    for used, attribute, count, key in (
        (config.model.sie_camera, "camid", num_cameras, "SIE_CAMERA"),
        (config.model.sie_view, "viewid", num_views, "SIE_VIEW"),
    ):
        for sample in (*splits.query, *splits.gallery) if used else ():
            if getattr(sample, attribute) >= count:
                raise DatasetError(
                    f"{sample.path}: {attribute} {getattr(sample, attribute)} (from zero) is beyond the {count} the model "
                    f"is trained with; set MODEL.{key} false, or train with that camera"
                )


def _check_same_run(folder: Path, config: Config, options: Options) -> None:
    saved = folder / "config.yml"
    if options.allow_config_change or not saved.is_file():
        return
    before, now = _leaves(load_config(saved).to_yaml_tree()), _leaves(config.to_yaml_tree())
    changed = [
        f"{key}: {before.get(key)!r} before, {value!r} now"
        for key, value in now.items()
        if before.get(key) != value and not key.startswith(FREE_KEYS) and not key.endswith(FREE_KEYS)
    ]
    if changed:
        listed = "\n  ".join(changed)
        raise ConfigError(
            f"{folder} holds a run under another configuration; give another OUTPUT_DIR, --fresh to start over, or "
            f"--allow-config-change to continue it so:\n  {listed}"
        )


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _clear(folder: Path, name: str) -> None:
    """Remove the files of an earlier run, and nothing else."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    patterns = (f"{name}_*.pth", f"{name}_*.json", "config.yml", "log.txt", "metrics.json", "ranklist.png", "events.out.tfevents.*")
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()

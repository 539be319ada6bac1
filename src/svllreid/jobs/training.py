"""Training: stage 1, then stage 2 with evaluation, in an OUTPUT_DIR that can be continued."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from torch import nn

import svllreid
from svllreid import build
from svllreid.config import Config
from svllreid.config.schema import Stage1, Stage2
from svllreid.errors import CheckpointError, ConfigError
from svllreid.evaluation.similarity import mean_similarity
from svllreid.files import remove_leftovers, write_text
from svllreid.jobs.continuing import check_same_run, check_space, clear_run, keep_last, output_dir
from svllreid.jobs.image_features import image_features
from svllreid.jobs.plans import stage1_plan, stage2_plan
from svllreid.jobs.preparing import Options, check_cameras, load_splits, load_test_splits, trial, without_unknown_sie
from svllreid.jobs.result_page import headline
from svllreid.jobs.testing import embed_splits, rank, test_on
from svllreid.losses.gather import num_processes
from svllreid.models.checkpoint import (
    HEADS,
    CheckpointInfo,
    fit_checkpoint,
    read_checkpoint,
    read_info,
    save_checkpoint,
)
from svllreid.models.reid import SVLLReID
from svllreid.training.loop import run_stage
from svllreid.training.parallel import is_first_process, leave_together
from svllreid.training.profile import trace
from svllreid.training.report import LiveReport, logging_to
from svllreid.training.sharding import whole
from svllreid.training.state import Progress
from svllreid.training.writers import Writer, check_wandb, open_writers

logger = logging.getLogger(__name__)

# Published code numbers these in an order that differs from the sorted one.
UNSORTED_WHEN_PUBLISHED = ("dukemtmc", "occ_duke")
SIMILARITY_PERIOD = 10


def train(config: Config, options: Options = Options(), console: Console | None = None) -> dict[str, Any] | None:
    """Train stage 1, then stage 2 with evaluation; continue or stop where OUTPUT_DIR holds the same run.

    Returns: the metrics of the last epoch; None where stage 2 was not asked for or there is nothing to test on.
    Raises: ReidError: anything the user can mend.
    """
    console = console or Console(stderr=True, quiet=not is_first_process())
    config = trial(config, options)
    folder = output_dir(config)
    if options.stage1_weights and options.stage != 2:
        raise ConfigError("--stage1-weights names the prompts that stage 2 starts from; it goes with --stage 2")
    if not (options.allow_config_change or options.fresh):
        check_same_run(folder, config)
    # Whatever can be refused is refused before a file is written or removed.
    with logging_to(None, console), LiveReport(console) as report:
        run = TrainingRun(config, options, folder, report)
        model = run.build_model()
        if model is not None:
            check_space(folder, model)
    writers: list[Writer] = []
    if run.fabric.is_global_zero:
        if options.fresh:
            clear_run(folder, config.model.name, run.stages, logs=options.stage is None, keep=options.stage1_weights)
        for place in (folder, folder / "state"):
            remove_leftovers(place)
        write_text(folder / "config.yml", yaml.safe_dump(config.to_yaml_tree(), sort_keys=False))
        writers = open_writers(folder, config.solver.wandb, config.to_yaml_tree())
    run.fabric.barrier()  # what an earlier run left is gone
    log = folder / "log.txt" if run.fabric.is_global_zero else None
    with logging_to(log, console), LiveReport(console, writers) as report:
        run.report = report
        metrics = run.run(model)
        leave_together()
        return metrics


class TrainingRun:
    """One training run in its OUTPUT_DIR."""

    def __init__(self, config: Config, options: Options, folder: Path, report: LiveReport) -> None:
        self.options, self.folder, self.report = options, folder, report
        self.fabric = build.build_fabric(config, options.device)
        self.splits = load_splits(config, options, report)
        self.tests = {self.splits.name: self.splits} if self.splits.testable else {}
        if config.datasets.test:
            self.tests = load_test_splits(config, options, report)
        self.data = build.TrainingData.of(self.splits.train, self.splits.side_rows)
        self.config, self.notes = without_unknown_sie(config, self.splits)
        self.name = config.model.name
        self.stages = stages_to_run(self.config, options)
        self.todo = [stage for stage in self.stages if options.fresh or not self.final_file(stage).is_file()]
        if 2 in self.stages:
            build.build_sampler(self.config, self.data)  # refuses impossible batches now, not after stage 1
        check_cameras(self.config, self.splits, self.data.side_rows)
        build.build_test_transform(self.config)  # refuses differing sizes now, not at the first evaluation
        plan = build.build_cache_plan(self.config, self.data)
        if plan is not None and 2 in self.todo:
            plan.check()
        if config.solver.wandb:
            check_wandb()
        for stage in set(self.stages) - set(self.todo):
            info = read_info(self.final_file(stage))
            if info is not None and info.pids != list(self.data.labels):
                raise CheckpointError(
                    f"{self.final_file(stage)} was trained on other identities than {self.splits.name} has now; give "
                    "another OUTPUT_DIR, or start over with --fresh"
                )

    def run(self, model: SVLLReID | None) -> dict[str, Any] | None:
        """Run the stages that are not finished yet."""
        for note in (*self.splits.notes, *self.notes):
            logger.info("%s: %s", self.splits.name, note)
        for stage in set(self.stages) - set(self.todo):
            logger.info("stage %d is finished: %s", stage, self.final_file(stage))
        if model is not None:
            logger.info("%s", self.summary(model))
            for stage in self.todo:
                (self.stage1 if stage == 1 else self.stage2)(model)
        if 2 not in self.stages:
            logger.info("stage 1's prompts are in %s; continue with --stage 2", self.final_file(1))
            return None
        numbers = self.folder / "metrics.json"
        if not self.todo and numbers.is_file():
            logger.info("this run is complete; --fresh starts over. Its numbers are in %s", numbers)
            return json.loads(numbers.read_text(encoding="utf-8")) if self.fabric.is_global_zero else None
        return self.test_last()

    def final_file(self, stage: int) -> Path:
        """The checkpoint of a stage's last epoch."""
        return self.file(stage, self.settings_of(stage).max_epochs)

    def settings_of(self, stage: int) -> Stage1 | Stage2:
        """The stage's settings."""
        return self.config.solver.stage1 if stage == 1 else self.config.solver.stage2

    def file(self, stage: int, epoch: int) -> Path:
        """The checkpoint of an epoch, under its published name."""
        return self.folder / (f"{self.name}_stage1_{epoch}.pth" if stage == 1 else f"{self.name}_{epoch}.pth")

    def summary(self, model: SVLLReID) -> str:
        """One line about data, model and device."""
        parameters = sum(p.numel() for p in model.image_encoder.parameters()) / 1e6
        return (
            f"{self.splits.name}: {len(self.data.labels)} identities, {len(self.data.samples)} images, "
            f"{len(self.data.side_rows.cameras)} cameras; {self.name} with {parameters:.1f} million vision parameters "
            f"on {self.fabric.device}"
        )

    def build_model(self) -> SVLLReID | None:
        """The model on its device: from CLIP, or for stage 2 alone from a stage-1 file, which holds CLIP's weights.

        None where nothing is left to train.
        """
        if not self.todo:
            return None
        if 1 in self.todo or not self.config.model.use_text:
            self.notes.append(f"the weights at the start are {self.config.model.pretrained}")
            return self.on_device(build.build_model_for(self.config, self.data))
        file = self.options.stage1_weights or self.final_file(1)
        if not file.is_file():
            raise CheckpointError(
                f"stage 2 needs stage 1's prompts, and there is no {file}; run stage 1 (--stage 1), or name its file "
                "with --stage1-weights"
            )
        state, info = read_checkpoint(file)
        self.check_identities(file, info)
        quick_gelu = info.quick_gelu if info is not None else None
        model = build.build_model_for(self.config, self.data, clip="random", quick_gelu=quick_gelu)
        # The run's own file also holds the heads that it began with; another's may be of other widths.
        foreign = self.options.stage1_weights is not None or self.options.allow_config_change
        fit_checkpoint(model, state, str(file), skip=HEADS if foreign else ())
        self.notes.append(f"stage 1's prompts come from {file}")
        return self.on_device(model)

    def on_device(self, model: SVLLReID) -> SVLLReID:
        """The model on its device, its BatchNorms shared by the processes where that is asked for."""
        if self.config.solver.sync_batchnorm and num_processes() > 1:
            if self.fabric.device.type != "cuda":
                raise ConfigError("SOLVER.SYNC_BATCHNORM works on GPUs alone; set it to false")
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return model.to(self.fabric.device)

    def check_identities(self, file: Path, info: CheckpointInfo | None) -> None:
        """Prompts belong to labels: refuse a stage-1 file whose identities are numbered otherwise."""
        if info is not None and info.pids != list(self.data.labels):
            raise CheckpointError(f"{file} has prompts of other identities than {self.splits.name}; run stage 1 on it")
        if info is None and self.splits.name in UNSORTED_WHEN_PUBLISHED:
            raise CheckpointError(
                f"{file} is a published stage-1 file of {self.splits.name}, whose identities are numbered in another "
                "order than the sorted one here, so its prompts would go to the wrong people; run stage 1 instead"
            )

    def stage1(self, model: SVLLReID) -> None:
        """Learn the prompts from cached image features."""
        features = image_features(self.config, model, self.data, self.fabric, self.report, self.folder / "state")
        stage = self.config.solver.stage1

        def after_epoch(epoch: int, progress: Progress) -> None:
            last = epoch == stage.max_epochs
            if epoch % SIMILARITY_PERIOD == 0 or last:
                similarity = mean_similarity(model.encode_all_text())
                self.report.scalars("eval", {"prompt_similarity": similarity}, epoch)
                logger.info("epoch %d: mean cosine between the prompts of two identities %.4f", epoch, similarity)
            if epoch % stage.checkpoint_period == 0 or last:
                self.save(model, 1, epoch)

        with self.profiler(1) as profiler:
            plan = stage1_plan(
                self.config, model, self.data, features, self.fabric, after_epoch, **self.limits(1, profiler)
            )
            run_stage(self.fabric, plan, self.folder / "state" / "stage1.pt", self.report)

    def stage2(self, model: SVLLReID) -> None:
        """Train the image encoder."""
        stage = self.config.solver.stage2
        build.shard_encoder(self.config, model, self.fabric)
        sampler = build.build_sampler(self.config, self.data)

        def after_epoch(epoch: int, progress: Progress) -> None:
            last = epoch == stage.max_epochs
            if (epoch % stage.eval_period == 0 or last) and self.splits.testable:
                metrics = self.evaluate(model)
                self.report.scalars("eval", metrics, epoch)
                logger.info("epoch %d: %s", epoch, headline(metrics))
                if metrics["mAP"] > progress.best.get("mAP", -1.0):
                    progress.best_epoch, progress.best = epoch, metrics
                    self.save(model, 2, epoch, self.folder / f"{self.name}_best.pth")
            # The epoch's own file comes last: where the last epoch's is there, all of the stage is done.
            if epoch % stage.checkpoint_period == 0 or last:
                self.save(model, 2, epoch)
                keep_last(self.folder, self.name, self.config.solver.keep_last)

        with self.profiler(2) as profiler:
            plan = stage2_plan(
                self.config, model, self.data, sampler, self.fabric, after_epoch, **self.limits(2, profiler)
            )
            run_stage(self.fabric, plan, self.folder / "state" / "stage2.pt", self.report)

    def limits(self, stage: int, profiler: Any) -> dict[str, Any]:
        """What the run adds to a stage's plan."""
        return {"final": self.final_file(stage), "max_steps": self.options.max_steps, "profiler": profiler}

    def profiler(self, stage: int) -> AbstractContextManager[Any]:
        """A profiler of a few steps that leaves a trace in OUTPUT_DIR, where --profile asks for one."""
        file = self.folder / f"trace_stage{stage}.json"
        return trace(file) if self.options.profile and self.fabric.is_global_zero else nullcontext()

    def evaluate(self, model: SVLLReID) -> dict[str, Any]:
        """Metrics on the dataset's own query and gallery; every process embeds a share, the first one ranks."""
        features = embed_splits(model, self.config, self.splits, self.fabric, self.report)
        metrics = rank(features, self.config, self.report).metrics if self.fabric.is_global_zero else {}
        return self.fabric.broadcast(metrics)

    def save(self, model: SVLLReID, stage: int, epoch: int, file: Path | None = None) -> None:
        """Write a checkpoint and what belongs to it."""
        state = whole(model.state_dict())
        if not self.fabric.is_global_zero:
            return
        info = CheckpointInfo(
            config=self.config.to_yaml_tree(),
            num_classes=len(self.data.labels),
            num_cameras=self.data.side_rows.num_cameras,
            num_views=self.data.side_rows.num_views,
            pids=list(self.data.labels),
            stage=stage,
            epoch=epoch,
            version=svllreid.__version__,
            cameras=list(self.data.side_rows.cameras),
            views=list(self.data.side_rows.views),
            listings=dict(self.splits.origin.listings),
        )
        save_checkpoint(file or self.file(stage, epoch), model, info, state)

    def test_last(self) -> dict[str, Any] | None:
        """Test the last epoch's checkpoint, as published."""
        self.fabric.barrier()  # the checkpoint is there
        if not self.tests:
            logger.info(
                "the dataset has no query and gallery, so nothing is tested; the model is %s", self.final_file(2)
            )
            return None
        model, _, _ = build.load_trained(self.final_file(2), self.config)
        weight = self.final_file(2)
        found = test_on(
            self.tests, model, self.config, self.splits.origin, self.fabric, self.report, self.folder, weight
        )
        return found if self.fabric.is_global_zero else None


def stages_to_run(config: Config, options: Options) -> list[int]:
    """Stage 1 and 2, or the one asked for."""
    if config.model.use_text:
        return [options.stage] if options.stage else [1, 2]
    if options.stage == 1:
        raise ConfigError("--stage 1: the one-stage baseline (MODEL.USE_TEXT false) has no stage 1; leave --stage out")
    return [2]

"""Training: stage 1, then stage 2 with evaluation, in an OUTPUT_DIR that can be continued."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console

from svllreid import build
from svllreid.config import Config, dump_tree
from svllreid.errors import CheckpointError, ConfigError
from svllreid.evaluation.similarity import mean_similarity
from svllreid.files import remove_leftovers, write_text
from svllreid.jobs.checkpoints import Checkpoints
from svllreid.jobs.continuing import (
    Changes,
    changed_keys,
    check_continuable,
    check_prompts,
    record_changes,
    refuse_changes,
)
from svllreid.jobs.image_features import image_features
from svllreid.jobs.plans import stage1_plan, stage2_plan
from svllreid.jobs.preparing import (
    Options,
    check_readable,
    load_splits,
    load_test_splits,
    trial,
    without_unknown_sie,
)
from svllreid.jobs.result_page import headline
from svllreid.jobs.run_folder import RunFolder, output_dir
from svllreid.jobs.starting_model import on_device, starting_model
from svllreid.jobs.testing import Measured, measure, prepare_tests, read_tests, write_tests
from svllreid.models.checkpoint import read_info
from svllreid.models.reid import SVLLReID
from svllreid.runtime.processes import end_process_group, is_first_process
from svllreid.runtime.progress import LiveReport, logging_to
from svllreid.runtime.writers import Writer, check_wandb, open_writers
from svllreid.training.loop import run_stage
from svllreid.training.profile import trace
from svllreid.training.state import TrainingProgress, read_progress

logger = logging.getLogger(__name__)

SIMILARITY_PERIOD = 10


def train(config: Config, options: Options = Options(), console: Console | None = None) -> dict[str, Any] | None:
    """Train stage 1, then stage 2 with evaluation; continue or stop where OUTPUT_DIR holds the same run.

    Returns: the metrics of the last epoch, see `write_tests`; None where stage 2 was not asked for or there is nothing
        to test on.
    Raises: ReidError: anything the user can fix.
    """
    console = console or Console(stderr=True, quiet=not is_first_process())
    config = trial(config, options)
    folder = RunFolder(output_dir(config), config.model.name)
    if options.stage1_weights and options.stage != 2:
        raise ConfigError("--stage1-weights names the prompts that stage 2 starts from; it goes with --stage 2")
    changes = {} if options.fresh else changed_keys(folder.config, config)
    if not options.allow_config_change:
        refuse_changes(folder.path, changes)
    # Whatever can be refused is refused before a file is written or removed.
    with logging_to(None, console), LiveReport(console) as report:
        run = TrainingRun(config, options, folder, changes, report)
        model = run.build_model()
        if model is not None:
            folder.check_space(model)
            if 2 in run.todo:
                build.check_stage2(config, model)
    writers: list[Writer] = []
    if run.fabric.is_global_zero:
        if options.fresh:
            folder.clear(run.stages, logs=options.stage is None, keep=options.stage1_weights)
        for place in (folder.path, folder.path / "state"):
            remove_leftovers(place)
        if model is not None:  # where nothing is trained, the record stays that of the training
            run.checkpoints.changes = record_changes(folder.changes, changes, run.trained_before())
            write_text(folder.config, dump_tree(config.to_yaml_tree()))
        writers = open_writers(folder.path, {"wandb": config.solver.wandb}, config.to_yaml_tree())
    run.fabric.barrier()  # what an earlier run left is gone
    log = folder.path / "log.txt" if run.fabric.is_global_zero else None
    with logging_to(log, console), LiveReport(console, writers) as report:
        metrics = run.run(model, report)
        end_process_group()
        return metrics


class TrainingRun:
    """One training run in its OUTPUT_DIR.

    Args:
        config: the run's configuration.
        options: of the command line.
        folder: its files.
        changes: keys that differ from those the files in the folder were trained under.
        report: shows the progress of reading the data.
    """

    def __init__(
        self, config: Config, options: Options, folder: RunFolder, changes: Changes, report: LiveReport
    ) -> None:
        self.options, self.folder, self.changes = options, folder, changes
        self.fabric = build.build_fabric(config, options.device)
        self.splits = load_splits(config, options, report)
        self.data = build.TrainingData.of(self.splits.train, self.splits.side_rows, self.splits.origin)
        self.config, self.notes = without_unknown_sie(config, self.splits)
        self.checkpoints = Checkpoints(folder, self.config, self.data, self.fabric.is_global_zero)
        self.stages = stages_to_run(self.config, options)
        self.todo = [stage for stage in self.stages if options.fresh or not folder.is_finished(self.config, stage)]
        if not options.fresh:
            check_continuable(folder, self.config, self.stages, self.todo, changed=bool(changes))
            self.check_finished()
        named = {self.splits.name: self.splits} if self.splits.testable else {}
        if config.datasets.test:
            named = load_test_splits(config, options, report)
        self.tests = prepare_tests(named, self.config, self.splits.origin, self.data.side_rows)
        build.build_test_transform(self.config)  # refuses differing sizes now, not at the first evaluation
        if 2 in self.stages:
            build.build_sampler(self.config, self.data)  # refuses impossible batches now, not after stage 1
        if 2 in self.todo:
            self.prepare_stage2(report)
        if config.solver.wandb:
            check_wandb()

    def prepare_stage2(self, report: LiveReport) -> None:
        """Meet now what would stop stage 2 after hours: no room for the cache, test images that cannot be read."""
        cache = build.build_cache_spec(self.config, self.data)
        if cache is not None:
            cache.check()
        for test in self.tests if not self.options.skip_unreadable else ():
            check_readable(test.splits, report)

    def check_finished(self) -> None:
        """Refuse finished stages of other identities, or a stage 2 that other prompts than stage 1's belong to."""
        for stage in set(self.stages) - set(self.todo):
            file = self.folder.final(self.config, stage)
            info = read_info(file)
            if info is not None and info.pids != list(self.data.labels):
                raise CheckpointError(
                    f"{file} was trained on other identities than {self.splits.name} has now; give another OUTPUT_DIR, "
                    "or start over with --fresh"
                )
            if stage == 2 and self.config.model.use_text:
                check_prompts(file, self.options.stage1_weights or self.folder.final(self.config, 1))

    def trained_before(self) -> dict[str, int]:
        """How far the stage to be trained next is."""
        progress = read_progress(self.folder.state(self.todo[0])) or TrainingProgress()
        return {"stage": self.todo[0], "epochs": progress.epoch, "steps": progress.step}

    def run(self, model: SVLLReID | None, report: LiveReport) -> dict[str, Any] | None:
        """Run the stages that are not finished yet; the metrics of the last epoch."""
        self.log_start(model)
        metrics: dict[str, Any] = {}
        if model is not None and 1 in self.todo:
            self.stage1(model, report)
        if model is not None and 2 in self.todo:
            metrics = self.stage2(model, report)
        final = self.folder.final(self.config, self.stages[-1])
        if 2 not in self.stages:
            logger.info("stage 1's prompts are in %s; continue with --stage 2", final)
            return None
        if not self.tests:
            logger.info("the dataset has no query and gallery, so nothing is tested; the model is %s", final)
            return None
        if 2 not in self.todo:
            metrics = self.finished_metrics(report)
        return metrics or None  # on other processes than the first there are none

    def finished_metrics(self, report: LiveReport) -> dict[str, Any]:
        """The metrics of a stage 2 that finished before: as it wrote them, or measured anew from its checkpoint."""
        written = read_tests(self.folder.metrics)
        if written is not None:
            logger.info("this run is complete; --fresh starts over. Its numbers are in %s", self.folder.metrics)
            return written if self.fabric.is_global_zero else {}
        if self.folder.metrics.exists():
            logger.warning("%s does not hold the numbers of a test; they are measured again", self.folder.metrics)
        model, _, _ = build.load_trained(self.folder.final(self.config, 2), self.config)
        return self.write((measure(test, model, self.fabric, report) for test in self.tests), report)

    def write(self, measured: Iterable[Measured | None], report: LiveReport) -> dict[str, Any]:
        """Write the results of the last epoch's checkpoint, as published; see `write_tests`."""
        weight = self.folder.final(self.config, 2)
        return write_tests(self.folder.path, measured, len(self.tests), report, weight)

    def log_start(self, model: SVLLReID | None) -> None:
        """Say what is special about the data, what is finished, and what is trained."""
        own = [f"{self.splits.name}: {note}" for note in (*self.splits.notes, *self.notes)]
        tested = [f"{test.name}: {note}" for test in self.tests for note in test.splits.notes]
        for line in dict.fromkeys(own + tested):
            logger.info("%s", line)
        for stage in set(self.stages) - set(self.todo):
            logger.info("stage %d is finished: %s", stage, self.folder.final(self.config, stage))
        if model is not None:
            logger.info("%s", self.summary(model))
        elif self.changes:
            changed = ", ".join(self.changes)
            logger.info("nothing is left to train, so what has changed takes no effect: %s", changed)

    def summary(self, model: SVLLReID) -> str:
        """One line about data, model and device."""
        parameters = sum(p.numel() for p in model.image_encoder.parameters()) / 1e6
        return (
            f"{self.splits.name}: {len(self.data.labels)} identities, {len(self.data.samples)} images, "
            f"{len(self.data.side_rows.cameras)} cameras; {self.folder.name} with {parameters:.1f} million vision "
            f"parameters on {self.fabric.device}"
        )

    def build_model(self) -> SVLLReID | None:
        """The model on its device as training begins, see `starting_model`; None where nothing is left to train."""
        if not self.todo:
            return None
        prompts = None
        if 1 not in self.todo and self.config.model.use_text:
            prompts = self.options.stage1_weights or self.folder.final(self.config, 1)
        # The run's own file also holds the heads that it began with; another's may be of other widths.
        foreign = self.options.stage1_weights is not None or self.options.allow_config_change
        model, note = starting_model(self.config, self.data, self.splits.name, prompts, foreign=foreign)
        self.notes.append(note)
        return on_device(model, self.config, self.fabric)

    def stage1(self, model: SVLLReID, report: LiveReport) -> None:
        """Learn the prompts from cached image features."""
        features = image_features(self.config, model, self.data, self.fabric, report, self.folder.path / "state")
        stage = self.config.solver.stage1

        def after_epoch(epoch: int, progress: TrainingProgress) -> None:
            self.checkpoints.after_epoch(model, 1, epoch)
            if epoch % SIMILARITY_PERIOD == 0 or epoch == stage.max_epochs:
                similarity = mean_similarity(model.encode_all_text())
                report.scalars("eval", {"prompt_similarity": similarity}, epoch)
                logger.info("epoch %d: mean cosine between the prompts of two identities %.4f", epoch, similarity)

        with self.profiler(1) as profiler:
            plan = stage1_plan(
                self.config, model, self.data, features, self.fabric, after_epoch, **self.limits(1, profiler)
            )
            run_stage(self.fabric, plan, self.folder.state(1), report)

    def stage2(self, model: SVLLReID, report: LiveReport) -> dict[str, Any]:
        """Train the image encoder; the metrics of the last epoch, on the first process and where anything is tested."""
        stage, metrics = self.config.solver.stage2, dict[str, Any]()
        build.shard_encoder(self.config, model, self.fabric)
        sampler = build.build_sampler(self.config, self.data)

        def after_epoch(epoch: int, progress: TrainingProgress) -> None:
            last = epoch == stage.max_epochs
            self.checkpoints.after_epoch(model, 2, epoch)  # first, so that no failing evaluation costs it
            if self.tests and (epoch % stage.eval_period == 0 or last):
                measured = [measure(test, model, self.fabric, report) for test in self.tests]
                self.checkpoints.keep_best(model, epoch, self.score(measured, epoch, report), progress)
                if last:
                    metrics.update(self.write(measured, report))

        with self.profiler(2) as profiler:
            plan = stage2_plan(
                self.config, model, self.data, sampler, self.fabric, after_epoch, **self.limits(2, profiler)
            )
            run_stage(self.fabric, plan, self.folder.state(2), report)
        return metrics

    def limits(self, stage: int, profiler: Any) -> dict[str, Any]:
        """What the run adds to a stage's plan."""
        final = self.folder.final(self.config, stage)
        return {"final": final, "max_steps": self.options.max_steps, "profiler": profiler}

    def profiler(self, stage: int) -> AbstractContextManager[Any]:
        """A profiler of a few steps that leaves a trace in OUTPUT_DIR, where --profile asks for one."""
        file = self.folder.path / f"trace_stage{stage}.json"
        return trace(file) if self.options.profile and self.fabric.is_global_zero else nullcontext()

    def score(self, measured: Sequence[Measured | None], epoch: int, report: LiveReport) -> dict[str, Any]:
        """Report an evaluation; its metrics, of several test sets by name, with the mean of their mAP."""
        by_name = {one.features.name: one.outcome.metrics for one in measured if one is not None}
        by_name = self.fabric.broadcast(by_name)
        for name, metrics in by_name.items():
            report.scalars("eval" if len(by_name) == 1 else f"eval/{name}", metrics, epoch)
            logger.info("epoch %d: %s%s", epoch, f"{name} " * (len(by_name) > 1), headline(metrics))
        settings = self.config.test.model_dump(mode="json", exclude={"weight", "ims_per_batch", "far"})
        return {
            **(next(iter(by_name.values())) if len(by_name) == 1 else {"datasets": by_name}),
            "mAP": sum(metrics["mAP"] for metrics in by_name.values()) / len(by_name),
            "measured": {"datasets": list(by_name), **settings},
        }


def stages_to_run(config: Config, options: Options) -> list[int]:
    """Stage 1 and 2, or the one asked for."""
    if config.model.use_text:
        return [options.stage] if options.stage else [1, 2]
    if options.stage == 1:
        raise ConfigError("--stage 1: the one-stage baseline (MODEL.USE_TEXT false) has no stage 1; leave --stage out")
    return [2]

"""Training: stage 1, then stage 2 with evaluation, in an OUTPUT_DIR that can be continued."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from svllreid import build
from svllreid.config import Config, dump_tree
from svllreid.files import remove_leftovers, write_text
from svllreid.jobs.checkpoints import Checkpoints, PeriodicCheckpoints
from svllreid.jobs.continuing import record_changes
from svllreid.jobs.evaluating import Evaluation, PromptSimilarity
from svllreid.jobs.image_features import image_features
from svllreid.jobs.plans import stage1_plan, stage2_plan
from svllreid.jobs.preparing import Options
from svllreid.jobs.run import Run, prepare_run
from svllreid.jobs.starting_model import on_device, starting_model
from svllreid.jobs.testing import measure, read_tests, write_tests
from svllreid.models.reid import SVLLReID
from svllreid.runtime.processes import end_process_group, is_first_process
from svllreid.runtime.progress import LiveReport, logging_to
from svllreid.runtime.writers import Writer, open_writers
from svllreid.training.hooks import Hook
from svllreid.training.loop import run_stage
from svllreid.training.profile import trace
from svllreid.training.state import TrainingProgress, read_progress

logger = logging.getLogger(__name__)


def train(config: Config, options: Options = Options(), console: Console | None = None) -> dict[str, Any] | None:
    """Train stage 1, then stage 2 with evaluation; continue or stop where OUTPUT_DIR holds the same run.

    Returns: the metrics of the last epoch, see `write_tests`; None where stage 2 was not asked for or there is nothing
        to test on.
    Raises: ReidError: anything the user can fix.
    """
    console = console or Console(stderr=True, quiet=not is_first_process())
    with logging_to(None, console), LiveReport(console) as report:
        run = prepare_run(config, options, report)
        model, origin = first_model(run)
    changes, writers = open_folder(run, begins=model is not None)
    run.fabric.barrier()  # the first process has removed what an earlier run left
    log = run.folder.path / "log.txt" if run.fabric.is_global_zero else None
    with logging_to(log, console), LiveReport(console, writers) as report:
        log_start(run, model, origin)
        metrics = train_stages(run, model, changes, report) if model is not None else {}
        metrics = last_metrics(run, metrics, report)
        end_process_group()
        return metrics or None  # on other processes than the first there are none


def first_model(run: Run) -> tuple[SVLLReID | None, str]:
    """The model on its device as training begins, and where its weights come from; None where nothing is left to train.

    Raises: ReidError: its weights cannot be had, the disk is too full for a run, or stage 2 cannot be set up.
    """
    if not run.todo:
        return None, ""
    prompts = None
    if 1 not in run.todo and run.config.model.use_text:
        prompts = run.options.stage1_weights or run.folder.final(run.config, 1)
    # The run's own stage-1 file also holds the heads that it began with; those of another run may be of other widths.
    foreign = run.options.stage1_weights is not None or run.options.allow_config_change
    model, origin = starting_model(run.config, run.data, run.splits.name, prompts, foreign=foreign)
    model = on_device(model, run.config, run.fabric)
    run.folder.check_space(model)
    if 2 in run.todo:
        build.check_stage2(run.config, model)
    return model, origin


def open_folder(run: Run, *, begins: bool) -> tuple[Sequence[dict[str, Any]], list[Writer]]:
    """Make OUTPUT_DIR ready on the first process: remove what is to go, write the configuration, open the writers.

    Args:
        begins: whether anything is trained; otherwise the record of the configuration stays that of the training.
    Returns: the record of changed keys, and the writers of scalars.
    """
    if not run.fabric.is_global_zero:
        return (), []
    folder, changes = run.folder, list[dict[str, Any]]()
    if run.options.fresh:
        folder.clear(run.stages, logs=run.options.stage is None, keep=run.options.stage1_weights)
    for place in (folder.path, folder.path / "state"):
        remove_leftovers(place)
    tree = run.asked.to_yaml_tree()
    if begins:
        progress = read_progress(folder.state(run.todo[0])) or TrainingProgress()
        trained = {"stage": run.todo[0], "epochs": progress.epoch, "steps": progress.step}
        changes = record_changes(folder.changes, run.changes, trained)
        write_text(folder.config, dump_tree(tree))
    return changes, open_writers(folder.path, {"wandb": run.config.solver.wandb}, tree)


def train_stages(run: Run, model: SVLLReID, changes: Sequence[dict[str, Any]], report: LiveReport) -> dict[str, Any]:
    """Train the stages that are not finished; the metrics of the last epoch where stage 2 was trained and tested."""
    checkpoints = Checkpoints(run.folder, run.config, run.data, run.fabric.is_global_zero, changes)
    if 1 in run.todo:
        learn_prompts(run, model, checkpoints, report)
    return train_encoder(run, model, checkpoints, report) if 2 in run.todo else {}


def learn_prompts(run: Run, model: SVLLReID, checkpoints: Checkpoints, report: LiveReport) -> None:
    """Stage 1: learn the prompts from cached image features."""
    features = image_features(run.config, model, run.data, run.fabric, report, run.folder.path / "state")
    hooks = [
        PeriodicCheckpoints(checkpoints, model, 1),
        PromptSimilarity(model, run.config.solver.stage1.max_epochs, report),
    ]
    with profiling(run, 1) as profilers:
        plan = stage1_plan(run, model, features, [*profilers, *hooks], report)
        run_stage(run.fabric, plan, run.folder.state(1), report)


def train_encoder(run: Run, model: SVLLReID, checkpoints: Checkpoints, report: LiveReport) -> dict[str, Any]:
    """Stage 2: train the image encoder; the metrics of the last epoch, on the first process and where it is tested."""
    build.shard_encoder(run.config, model, run.fabric)
    # The checkpoint comes first, so that no failing evaluation costs it.
    hooks: list[Hook] = [PeriodicCheckpoints(checkpoints, model, 2)]
    evaluation = Evaluation(run.tests, model, checkpoints, run.fabric, report)
    if run.tests:
        hooks.append(evaluation)
    with profiling(run, 2) as profilers:
        plan = stage2_plan(run, model, [*profilers, *hooks], report)
        run_stage(run.fabric, plan, run.folder.state(2), report)
    return evaluation.metrics


@contextmanager
def profiling(run: Run, stage: int) -> Iterator[list[Hook]]:
    """The hook that writes a trace of a few steps to OUTPUT_DIR, where --profile asks for one; else none."""
    if not (run.options.profile and run.fabric.is_global_zero):
        yield []
        return
    with trace(run.folder.path / f"trace_stage{stage}.json") as hook:
        yield [hook]


def last_metrics(run: Run, trained: dict[str, Any], report: LiveReport) -> dict[str, Any]:
    """The metrics of stage 2's last epoch, whether it was trained now or before; none where nothing is tested.

    Args:
        trained: the metrics of a stage 2 that was trained now.
    """
    final = run.folder.final(run.config, run.stages[-1])
    if 2 not in run.stages:
        logger.info("stage 1's prompts are in %s; continue with --stage 2", final)
        return {}
    if not run.tests:
        logger.info("the dataset has no query and gallery, so nothing is tested; the model is %s", final)
        return {}
    if 2 in run.todo:
        return trained
    written = read_tests(run.folder.metrics)
    if written is not None:
        logger.info("this run is complete; --fresh starts over. Its numbers are in %s", run.folder.metrics)
        return written if run.fabric.is_global_zero else {}
    if run.folder.metrics.exists():
        logger.warning("%s does not hold the numbers of a test; they are measured again", run.folder.metrics)
    model, _, _ = build.load_trained(final, run.config)
    measured = (measure(test, model, run.fabric, report) for test in run.tests)
    return write_tests(run.folder.path, measured, len(run.tests), final)


def log_start(run: Run, model: SVLLReID | None, origin: str) -> None:
    """Log what is special about the data, what is finished, and what is trained.

    Args:
        model: as training begins; None where nothing is left to train.
        origin: where its weights come from.
    """
    notes = [f"{run.splits.name}: {note}" for note in (*run.splits.notes, *run.notes, *filter(None, [origin]))]
    notes += [f"{test.name}: {note}" for test in run.tests for note in test.splits.notes]
    for line in dict.fromkeys(notes):
        logger.info("%s", line)
    for stage in sorted(set(run.stages) - set(run.todo)):
        logger.info("stage %d is finished: %s", stage, run.folder.final(run.config, stage))
    if model is None:
        if run.changes:
            logger.info("nothing is left to train, so what has changed takes no effect: %s", ", ".join(run.changes))
        return
    parameters = sum(p.numel() for p in model.image_encoder.parameters()) / 1e6
    logger.info(
        "%s: %d identities, %d images, %d cameras; %s with %.1f million vision parameters on %s",
        run.splits.name,
        len(run.data.labels),
        len(run.data.samples),
        len(run.data.side_rows.cameras),
        run.folder.name,
        parameters,
        run.fabric.device,
    )

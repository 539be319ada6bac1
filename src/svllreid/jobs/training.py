"""Training: stage 1, then stage 2 with evaluation, in an OUTPUT_DIR from which the run can be continued."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
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
from svllreid.runtime.background import BackgroundWriter
from svllreid.runtime.processes import end_process_group, is_first_process
from svllreid.runtime.progress import LiveReport, logging_to
from svllreid.runtime.writers import WRITERS, Writer, open_writers
from svllreid.training.hooks import Hook
from svllreid.training.loop import run_stage
from svllreid.training.profile import trace
from svllreid.training.state import TrainingProgress, read_progress

logger = logging.getLogger(__name__)


def train(config: Config, options: Options = Options(), console: Console | None = None) -> dict[str, Any] | None:
    """Train stage 1, then stage 2 with evaluation; an unfinished run in OUTPUT_DIR is continued.

    Args:
        config: the configuration.
        options: the options of the command line.
        console: shows the progress; None: on stderr.
    Returns: the metrics of the last epoch, see `write_tests`; None if stage 2 was not asked for or there is nothing to
        test on, and on all processes but the first.
    Raises: ReidError: anything that the user can fix.
    """
    console = console or Console(stderr=True, quiet=not is_first_process())
    with logging_to(None, console), LiveReport(console) as report:
        run = prepare_run(config, options, report)
        model, origin = first_model(run)
    with run.folder.locked() if run.fabric.is_global_zero else nullcontext():
        changes, writers = open_folder(run, begins=model is not None)
        run.fabric.barrier()  # until the first process has removed the files of an earlier run
        log = run.folder.path / "log.txt" if run.fabric.is_global_zero else None
        with logging_to(log, console), LiveReport(console, writers) as report:
            log_start(run, model, origin)
            metrics = train_stages(run, model, changes, report) if model is not None else {}
            metrics = last_metrics(run, metrics, report)
            end_process_group()
            return metrics or None


def first_model(run: Run) -> tuple[SVLLReID | None, str]:
    """The model on its device before training, and a line that says where its weights come from.

    If nothing is left to train, the model is None.

    Raises: ReidError: the weights cannot be loaded, the disk has too little space, or stage 2 cannot be set up.
    """
    if not run.todo:
        return None, ""
    prompts = None
    if 1 not in run.todo and run.config.model.use_text:
        prompts = run.options.stage1_weights or run.folder.final(run.config, 1)
    # The heads in the run's own stage-1 file are those that it started with; in another run they may have other widths.
    foreign = run.options.stage1_weights is not None or run.options.allow_config_change
    model, origin = starting_model(run.config, run.data, run.splits.name, prompts, foreign=foreign)
    model = on_device(model, run.config, run.fabric)
    run.folder.check_space(model, run.config)
    if 2 in run.todo:
        build.check_stage2(run.config, model)
    return model, origin


def open_folder(run: Run, *, begins: bool) -> tuple[Sequence[dict[str, Any]], list[Writer]]:
    """Prepare OUTPUT_DIR: remove old files, write the configuration, open the writers of scalars.

    Only the first process does so.

    Args:
        run: the run.
        begins: whether anything is trained; otherwise config.yml stays as it is, and there is nothing to record.
    Returns: the record of changed keys, and the writers; both are empty on the other processes, and where nothing is
        trained.
    """
    if not run.fabric.is_global_zero:
        return (), []
    folder = run.folder
    if run.options.fresh:
        folder.clear(run.stages, logs=run.options.stage is None, keep=run.options.stage1_weights)
    for place in (folder.path, folder.path / "state"):
        remove_leftovers(place)
    if not begins:
        return (), []
    tree = run.asked.to_yaml_tree()
    progress = read_progress(folder.state(run.todo[0])) or TrainingProgress()
    trained = {"stage": run.todo[0], "epochs": progress.epoch, "steps": progress.step}
    changes = record_changes(folder.changes, run.changes, trained)
    write_text(folder.config, dump_tree(tree))
    projects = {name: getattr(run.config.solver, name, "") for name in WRITERS}  # a key of the writer's name, if any
    return changes, open_writers(folder.path, projects, tree)


def train_stages(run: Run, model: SVLLReID, changes: Sequence[dict[str, Any]], report: LiveReport) -> dict[str, Any]:
    """Train the stages that are not finished.

    Args:
        run: the run.
        model: the model before training.
        changes: the record of changed keys, for the checkpoints.
        report: shows the progress and records losses and metrics.
    Returns: the metrics of the last epoch of stage 2; empty if stage 2 was not trained or not tested.
    """
    checkpoints = Checkpoints(run.folder, run.config, run.data, run.fabric.is_global_zero, BackgroundWriter(), changes)
    if 1 in run.todo:
        learn_prompts(run, model, checkpoints, report)
    return train_encoder(run, model, checkpoints, report) if 2 in run.todo else {}


def learn_prompts(run: Run, model: SVLLReID, checkpoints: Checkpoints, report: LiveReport) -> None:
    """Train stage 1: learn the prompts from cached image features."""
    features = image_features(run.config, model, run.data, run.fabric, report, run.folder.path / "state")
    hooks = [
        PeriodicCheckpoints(checkpoints, model, 1),
        PromptSimilarity(model, run.config.solver.stage1.max_epochs, report),
    ]
    with profiling(run, 1) as profilers:
        plan = stage1_plan(run, model, features, [*profilers, *hooks], report)
        run_stage(run.fabric, plan, run.folder.state(1), report, checkpoints.writer)


def train_encoder(run: Run, model: SVLLReID, checkpoints: Checkpoints, report: LiveReport) -> dict[str, Any]:
    """Train stage 2, the image encoder, and return the metrics of the last epoch.

    They are empty if there is nothing to test on, and on all processes but the first.
    """
    build.shard_encoder(run.config, model, run.fabric)
    # The checkpoint is written first, so that a failing evaluation does not lose it.
    hooks: list[Hook] = [PeriodicCheckpoints(checkpoints, model, 2)]
    evaluation = Evaluation(run.tests, model, checkpoints, run.fabric, report)
    if run.tests:
        hooks.append(evaluation)
    with profiling(run, 2) as profilers:
        plan = stage2_plan(run, model, [*profilers, *hooks], report)
        run_stage(run.fabric, plan, run.folder.state(2), report, checkpoints.writer)
    return evaluation.metrics


@contextmanager
def profiling(run: Run, stage: int) -> Iterator[list[Hook]]:
    """A context with the hook that writes a trace of a few steps to OUTPUT_DIR; without --profile the list is empty."""
    if not (run.options.profile and run.fabric.is_global_zero):
        yield []
        return
    with trace(run.folder.path / f"trace_stage{stage}.json") as hook:
        yield [hook]


def last_metrics(run: Run, trained: dict[str, Any], report: LiveReport) -> dict[str, Any]:
    """The metrics of the last epoch of stage 2, whether this command trained it or an earlier one.

    They are read from metrics.json, or measured again if that is missing or damaged.

    Args:
        run: the run.
        trained: the metrics if this command trained stage 2.
        report: shows the progress.
    Returns: the metrics; empty if nothing is tested, and on all processes but the first.
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
        run: the run.
        model: the model before training; None if nothing is left to train.
        origin: a line that says where its weights come from; may be empty.
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
    log_continuing(run)
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


def log_continuing(run: Run) -> None:
    """Log of each stage that is trained from where it continues, or that its earlier training is lost."""
    for stage in run.todo:
        state, checkpoints = run.folder.state(stage), run.folder.numbered(stage)
        progress = read_progress(state)
        if progress is not None:
            step = f"step {progress.step} of epoch {progress.epoch + 1}" if progress.step else f"epoch {progress.epoch}"
            logger.info("stage %d continues after %s", stage, step)
        elif checkpoints:
            logger.warning(
                "stage %d begins anew, since there is no %s to continue from. %s stays until an epoch of the same "
                "number replaces it",
                stage,
                state,
                " and ".join(map(str, checkpoints)),
            )

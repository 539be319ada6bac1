"""The preparation of a training run: configuration, data and folder are checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning.fabric import Fabric

from svllreid import build
from svllreid.config import Config
from svllreid.errors import CheckpointError, ConfigError
from svllreid.files import is_file, user_path
from svllreid.jobs.continuing import Changes, changed_keys, check_continuable, check_prompts, refuse_changes
from svllreid.jobs.preparing import (
    Options,
    check_readable,
    load_splits,
    load_test_splits,
    trial,
    without_unknown_sie,
)
from svllreid.jobs.run_folder import RunFolder, output_dir
from svllreid.jobs.testing import TestSet, prepare_tests
from svllreid.models.checkpoint import read_info
from svllreid.runtime.gather import num_processes
from svllreid.runtime.progress import LiveReport
from svllreid.runtime.writers import check_wandb
from svllreid.types import Splits


@dataclass(frozen=True)
class Run:
    """A training run that has been checked and can begin.

    Args:
        asked: the configuration as the user gave it; config.yml records it.
        config: the same configuration, with side information switched off if no image has a camera or viewpoint.
        options: the options of the command line.
        folder: the folder and file names of the run.
        fabric: device, precision and processes.
        splits: the dataset.
        data: the training data with its labels.
        tests: the test sets of the evaluations during and after stage 2; empty if the dataset has no test images.
        stages: the stages that the command asks for.
        todo: those of them that are not finished.
        changes: the keys that differ from those under which the folder's files were trained, see `changed_keys`.
        notes: what the user should know about the configuration.
    """

    asked: Config
    config: Config
    options: Options
    folder: RunFolder
    fabric: Fabric
    splits: Splits
    data: build.TrainingData
    tests: tuple[TestSet, ...]
    stages: tuple[int, ...]
    todo: tuple[int, ...]
    changes: Changes
    notes: tuple[str, ...]


def prepare_run(config: Config, options: Options, report: LiveReport) -> Run:
    """Read the data, and check everything that can be checked, before a file is written or removed.

    Args:
        config: the configuration as the user gave it.
        options: the options of the command line.
        report: shows the progress.
    Raises: ReidError: anything that would stop the run now or hours later.
    """
    asked = trial(config, options)
    folder = RunFolder(output_dir(asked), asked.model.name)
    if options.stage1_weights and options.stage != 2:
        raise ConfigError("--stage1-weights names the prompts that stage 2 starts from; it goes with --stage 2")
    if options.stage1_weights and not asked.model.use_text:
        raise ConfigError(
            "--stage1-weights: the one-stage baseline (MODEL.USE_TEXT false) has no prompts; leave the option out"
        )
    changes = {} if options.fresh else changed_keys(folder.config, asked)
    if not options.allow_config_change:
        refuse_changes(folder.path, changes)
    fabric = build.build_fabric(asked, options.device)
    splits = load_splits(asked, options, report)
    data = build.TrainingData.of(splits.train, splits.side_rows, splits.origin)
    config, notes = without_unknown_sie(asked, splits)
    if config.model.use_ssl_stage1 and not config.model.use_text:
        notes.append("MODEL.USE_SSL_STAGE1 has no effect: the one-stage baseline (MODEL.USE_TEXT false) has no stage 1")
    stages = stages_to_run(config, options)
    todo = tuple(stage for stage in stages if options.fresh or not folder.is_finished(config, stage))
    if todo:
        check_start(folder, config)
    if not options.fresh:
        check_continuable(folder, config, stages, todo, changed=bool(changes))
        check_finished(folder, config, options, data, splits.name, set(stages) - set(todo))
    named = {splits.name: splits} if splits.testable else {}
    if config.datasets.test:
        named = load_test_splits(config, options, report)
    tests = prepare_tests(named, config, splits.origin, data.side_rows)
    build.build_test_transform(config)  # called for its check of the image sizes
    if 1 in todo and config.solver.stage1.ims_per_batch < 2 * num_processes():
        raise ConfigError(
            f"SOLVER.STAGE1.IMS_PER_BATCH {config.solver.stage1.ims_per_batch}: stage 1 compares the images of a batch "
            f"and learns nothing from one alone; set at least {2 * num_processes()}, two for each process"
        )
    if 2 in stages:
        build.build_sampler(config, data)  # called for its check of the batch size
    if 2 in todo:
        check_stage2_data(config, options, data, tests, report)
    if config.solver.wandb:
        check_wandb()
    return Run(asked, config, options, folder, fabric, splits, data, tuple(tests), stages, todo, changes, tuple(notes))


def stages_to_run(config: Config, options: Options) -> tuple[int, ...]:
    """The stages that the command trains: those of the method, or the one of --stage.

    Raises: ConfigError: stage 1 of the one-stage baseline.
    """
    if config.model.use_text:
        return (options.stage,) if options.stage else (1, 2)
    if options.stage == 1:
        raise ConfigError("--stage 1: the one-stage baseline (MODEL.USE_TEXT false) has no stage 1; leave --stage out")
    return (2,)


def check_start(folder: RunFolder, config: Config) -> None:
    """Check that the run does not start from a checkpoint that it would remove or replace itself.

    Raises: ConfigError: MODEL.PRETRAINED is a checkpoint of a run in the same OUTPUT_DIR.
    """
    start = user_path(config.model.pretrained)
    if is_file(start) and start.resolve() in {
        file.resolve() for file in (*folder.numbered(1), *folder.numbered(2), folder.best)
    }:
        raise ConfigError(
            f"MODEL.PRETRAINED {start} lies in OUTPUT_DIR and has a name of this run's own files, which would replace "
            "it; give another OUTPUT_DIR"
        )


def check_finished(
    folder: RunFolder, config: Config, options: Options, data: build.TrainingData, dataset: str, finished: set[int]
) -> None:
    """Check that the checkpoints of finished stages belong to this run.

    Args:
        folder: the folder and file names of the run.
        config: its configuration.
        options: the options of the command line.
        data: the training data.
        dataset: name of the dataset, for the message.
        finished: the finished stages.
    Raises: CheckpointError: a stage was trained on other identities, or stage 2 against other prompts.
    """
    for stage in sorted(finished):
        file = folder.final(config, stage)
        info = read_info(file)
        if info is not None and info.pids != list(data.labels):
            raise CheckpointError(
                f"{file} was trained on other identities than {dataset} has now; give another OUTPUT_DIR, or start "
                "over with --fresh"
            )
        if stage == 2 and config.model.use_text:
            check_prompts(file, options.stage1_weights or folder.final(config, 1))


def check_stage2_data(
    config: Config, options: Options, data: build.TrainingData, tests: Sequence[TestSet], report: LiveReport
) -> None:
    """Check what would stop stage 2 only after hours: space for the image cache, and that test images can be read.

    Raises: ReidError: there is too little memory or disk space, or an image cannot be read.
    """
    plan = build.build_cache_spec(config, data)
    if plan is not None:
        plan.check()
    for test in tests if not options.skip_unreadable else ():
        check_readable(test.splits, report)

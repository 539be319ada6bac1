"""A training run before it begins: the configuration, data and folder, all checked, nothing written yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning.fabric import Fabric

from svllreid import build
from svllreid.config import Config
from svllreid.errors import CheckpointError, ConfigError
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
from svllreid.runtime.progress import LiveReport
from svllreid.runtime.writers import check_wandb
from svllreid.types import Splits


@dataclass(frozen=True)
class Run:
    """What a training run is about.

    Args:
        asked: the configuration as the user asked for it, which config.yml records.
        config: the same, side information off where no image has a camera or viewpoint.
        options: of the command line.
        folder: its files.
        fabric: device, precision and processes.
        splits: the data.
        data: the training data with its labels.
        tests: what is tested on during and after stage 2; none where the data has no test images.
        stages: that the command asks for.
        todo: those of them that are not finished.
        changes: keys that differ from those the files in the folder were trained under.
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
    """Read the data and check all that can be checked before a file is written or removed.

    Raises: ReidError: whatever would stop the run now or hours later.
    """
    asked = trial(config, options)
    folder = RunFolder(output_dir(asked), asked.model.name)
    if options.stage1_weights and options.stage != 2:
        raise ConfigError("--stage1-weights names the prompts that stage 2 starts from; it goes with --stage 2")
    changes = {} if options.fresh else changed_keys(folder.config, asked)
    if not options.allow_config_change:
        refuse_changes(folder.path, changes)
    fabric = build.build_fabric(asked, options.device)
    splits = load_splits(asked, options, report)
    data = build.TrainingData.of(splits.train, splits.side_rows, splits.origin)
    config, notes = without_unknown_sie(asked, splits)
    stages = stages_to_run(config, options)
    todo = tuple(stage for stage in stages if options.fresh or not folder.is_finished(config, stage))
    if not options.fresh:
        check_continuable(folder, config, stages, todo, changed=bool(changes))
        check_finished(folder, config, options, data, splits.name, set(stages) - set(todo))
    named = {splits.name: splits} if splits.testable else {}
    if config.datasets.test:
        named = load_test_splits(config, options, report)
    tests = prepare_tests(named, config, splits.origin, data.side_rows)
    build.build_test_transform(config)  # refuses differing sizes
    if 2 in stages:
        build.build_sampler(config, data)  # refuses impossible batches
    if 2 in todo:
        check_stage2_data(config, options, data, tests, report)
    if config.solver.wandb:
        check_wandb()
    return Run(asked, config, options, folder, fabric, splits, data, tuple(tests), stages, todo, changes, tuple(notes))


def stages_to_run(config: Config, options: Options) -> tuple[int, ...]:
    """Stage 1 and 2, or the one asked for."""
    if config.model.use_text:
        return (options.stage,) if options.stage else (1, 2)
    if options.stage == 1:
        raise ConfigError("--stage 1: the one-stage baseline (MODEL.USE_TEXT false) has no stage 1; leave --stage out")
    return (2,)


def check_finished(
    folder: RunFolder, config: Config, options: Options, data: build.TrainingData, dataset: str, finished: set[int]
) -> None:
    """Refuse finished stages of other identities, or a stage 2 that was trained against other prompts.

    Raises: CheckpointError: the checkpoint in the folder does not belong to this run.
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
    """Check what would stop stage 2 after hours: room for the image cache, and test images that cannot be read."""
    plan = build.build_cache_spec(config, data)
    if plan is not None:
        plan.check()
    for test in tests if not options.skip_unreadable else ():
        check_readable(test.splits, report)

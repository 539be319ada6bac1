"""Continuing a run in OUTPUT_DIR: which configurations allow it, and the record of changed keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from svllreid.config import Config, load_config, may_change
from svllreid.errors import CheckpointError, ConfigError
from svllreid.files import write_json
from svllreid.jobs.run_folder import RunFolder, settings_of
from svllreid.models.checkpoint import read_info
from svllreid.training.state import read_progress

Changes = dict[str, tuple[Any, Any]]


def changed_keys(saved: Path, config: Config) -> Changes:
    """The keys whose values differ from a saved configuration and change training, each with its value before and now.

    Args:
        saved: the config.yml of the run; where it does not exist, nothing has changed.
        config: the configuration now.
    """
    if not saved.is_file():
        return {}
    before, now = _leaves(load_config(saved).to_yaml_tree()), _leaves(config.to_yaml_tree())
    return {
        key: (before.get(key), value) for key, value in now.items() if before.get(key) != value and not may_change(key)
    }


def refuse_changes(folder: Path, changes: Changes) -> None:
    """Refuse to continue a run under another configuration.

    Args:
        folder: OUTPUT_DIR, for the message.
        changes: the changed keys, see `changed_keys`.
    Raises: ConfigError: a key has changed; the message lists all of them.
    """
    if changes:
        listed = "\n  ".join(f"{key}: {before!r} before, {now!r} now" for key, (before, now) in changes.items())
        raise ConfigError(
            f"{folder} holds a run under another configuration; give another OUTPUT_DIR, --fresh to start over, or "
            f"--allow-config-change to continue it under this one:\n  {listed}"
        )


def check_continuable(
    run: RunFolder, config: Config, stages: Sequence[int], todo: Sequence[int], *, changed: bool
) -> None:
    """Refuse to continue under a configuration that could not have led to the trained weights in OUTPUT_DIR.

    Args:
        run: the folder and file names of the run.
        config: the configuration now.
        stages: the stages that the command trains.
        todo: those of them that are not finished.
        changed: whether keys that change training differ from those of the run so far.
    Raises: ConfigError: the configuration has fewer epochs than are trained, or stage 1 would be trained further
        although stage 2 in the same folder was trained against its earlier prompts.
    """
    progress = {stage: read_progress(run.state(stage)) for stage in (1, 2)}
    for stage in stages:
        trained, asked = progress[stage], settings_of(config, stage).max_epochs
        if trained is not None and trained.epoch + (trained.step > 0) > asked:
            steps = f" and {trained.step} steps" if trained.step else ""
            raise ConfigError(
                f"SOLVER.STAGE{stage}.MAX_EPOCHS {asked}: stage {stage} in {run.path} has already trained "
                f"{trained.epoch} epochs{steps}; set at least as many, give another OUTPUT_DIR, or start over with "
                "--fresh"
            )
    first, has_second = progress[1], progress[2] is not None or run.final(config, 2).is_file()
    # With nothing changed, a stage 1 whose files were removed gives the same prompts again.
    other_prompts = changed if first is None else first.epoch < config.solver.stage1.max_epochs
    if 1 in todo and has_second and other_prompts:
        raise ConfigError(
            f"{run.path} holds a stage 2 that was trained against the prompts of an earlier stage 1; training stage 1 "
            "under another configuration would leave it on those prompts. Give another OUTPUT_DIR, or start over with "
            "--fresh"
        )


def check_prompts(trained: Path, prompts: Path) -> None:
    """Check that a finished stage 2 was trained against the prompts that stage 1 has now.

    Args:
        trained: the checkpoint of stage 2.
        prompts: the checkpoint of stage 1. If one of the two is missing or of an older version, nothing is checked.
    Raises: CheckpointError: stage 2 was trained against other prompts.
    """
    first, second = read_info(prompts), read_info(trained)
    digests = {info.prompts for info in (first, second) if info is not None and info.prompts}
    if len(digests) > 1:
        raise CheckpointError(
            f"{trained} was trained against other prompts than those in {prompts}; train stage 2 again with --stage 2 "
            "--fresh, or give another OUTPUT_DIR"
        )


def record_changes(file: Path, changes: Changes, at: Mapping[str, int]) -> list[dict[str, Any]]:
    """Add changed keys to the record of a run, and return the whole record.

    Args:
        file: the record, a JSON list. It is written only if a key has changed.
        changes: the changed keys, see `changed_keys`.
        at: the stage, and the epochs and steps that it was trained under the configuration before.
    Raises: CheckpointError: the record cannot be read.
    """
    record: list[dict[str, Any]] = []
    if file.is_file():
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if not (isinstance(record, list) and all(isinstance(change, dict) for change in record)):
                raise ValueError("it is not a list of changes")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read ({error}); restore or remove it") from None
    if changes:
        record.append({**at, "changed": {key: {"before": old, "now": new} for key, (old, new) in changes.items()}})
        write_json(file, record)
    return record


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree by their keys in full, such as `SOLVER.SEED`."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves

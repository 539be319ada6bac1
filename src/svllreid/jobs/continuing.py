"""OUTPUT_DIR: where it is, whether it holds the same run, and how to start over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from svllreid.config import Config, load_config
from svllreid.errors import ConfigError

# Keys that may differ when a run is continued: they do not change what is learned.
FREE_KEYS = (
    "OUTPUT_DIR",
    "DATASETS.ROOT_DIR",
    "DATALOADER.NUM_WORKERS",
    "TEST.",
    "LOG_PERIOD",
    "CHECKPOINT_PERIOD",
    "EVAL_PERIOD",
)


def output_dir(config: Config) -> Path:
    """Where a training run's files go."""
    if config.output_dir:
        return Path(config.output_dir).expanduser()
    names = config.datasets.names
    return Path("outputs") / f"{names if isinstance(names, str) else '+'.join(names)}_{config.model.name}"


def check_same_run(folder: Path, config: Config) -> None:
    """ConfigError where the folder holds a run under another configuration."""
    saved = folder / "config.yml"
    if not saved.is_file():
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


def clear_run(folder: Path, name: str) -> None:
    """Remove the files of an earlier run, and nothing else."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    patterns = (
        f"{name}_*.pth",
        f"{name}_*.json",
        "config.yml",
        "log.txt",
        "metrics.json",
        "ranklist.png",
        "events.out.tfevents.*",
    )
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()

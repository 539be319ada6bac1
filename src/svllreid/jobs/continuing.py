"""OUTPUT_DIR: where it is, whether it holds the same run, and how to start over."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from svllreid.build import entries
from svllreid.config import Config, load_config
from svllreid.errors import ConfigError, OutputError
from svllreid.training.writers import check_folder

# Keys that may differ when a run is continued: they do not change what is learned.
FREE_KEYS = (
    "OUTPUT_DIR",
    "DATASETS.ROOT_DIR",
    "DATALOADER.CACHE",
    "DATASETS.TEST",
    "DATASETS.VERI_VIEWS",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.KEEP_LAST",
    "SOLVER.SAVE_PERIOD",
    "SOLVER.WANDB",
    "TEST.",
    "LOG_PERIOD",
    "CHECKPOINT_PERIOD",
    "EVAL_PERIOD",
)


def output_dir(config: Config) -> Path:
    """Where a training run's files go; OutputError where they cannot."""
    if config.output_dir:
        folder = Path(config.output_dir).expanduser()
        check_folder(folder)
        return folder
    names = "+".join(entry.partition(":")[0] for entry in entries(config.datasets.names))
    return Path("outputs") / f"{names}_{config.model.name}"


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


def clear_run(folder: Path, name: str, stages: Sequence[int], *, logs: bool, keep: Path | None) -> None:
    """Remove an earlier run's files of these stages, and its logs; `keep` stays in any case."""
    patterns = []
    if 1 in stages:
        patterns += [
            f"{name}_stage1_*.pth",
            f"{name}_stage1_*.json",
            "state/stage1.*",
            "state/image_features.safetensors",
        ]
    if 2 in stages:
        patterns += [f"{name}_[0-9b]*.pth", f"{name}_[0-9b]*.json", "state/stage2.*"]
        patterns += ["metrics.json", "queries.csv", "ranklist.png", "report.html"]
    if logs:
        patterns += ["log.txt", "scalars.csv", "events.out.tfevents.*"]
    kept = [] if keep is None else [keep.resolve(), keep.with_suffix(".json").resolve()]
    for pattern in patterns:
        for file in folder.glob(pattern):
            if file.resolve() not in kept:
                file.unlink()


def keep_last(folder: Path, name: str, count: int) -> None:
    """Remove all but the last `count` of stage 2's numbered checkpoints; 0 keeps all."""
    numbered = sorted(
        (int(found[1]), file)
        for file in folder.glob(f"{name}_*.pth")
        if (found := re.fullmatch(rf"{re.escape(name)}_(\d+)\.pth", file.name))
    )
    for _, file in numbered[: max(0, len(numbered) - count)] if count else []:
        file.unlink()
        file.with_suffix(".json").unlink(missing_ok=True)


def check_space(folder: Path, model: nn.Module) -> None:
    """OutputError where the disk cannot take a run's checkpoints (three) and state (weights and two moments)."""
    needed = 6 * sum(value.numel() * value.element_size() for value in model.state_dict().values())
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OutputError(
            f"{folder} needs about {needed / 1e9:.1f} GB for checkpoints and the state to continue from, and its disk "
            f"has {free / 1e9:.1f} GB free; free space, or name another folder (OUTPUT_DIR)"
        )

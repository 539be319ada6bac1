"""Where scalars go: TensorBoard's events, a CSV file, Weights & Biases."""

from __future__ import annotations

import csv
import importlib.util
import time
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from svllreid.errors import ConfigError, OutputError


class Writer(Protocol):
    """Takes scalars by name and step."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Record one number."""

    def close(self) -> None:
        """Nothing more comes."""


class CsvWriter:
    """`scalars.csv` with a line per number: seconds since 1970, name, step, value; a continued run goes on below."""

    def __init__(self, path: Path) -> None:
        new = not path.is_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a", newline="", encoding="utf-8", buffering=1)
        self.rows = csv.writer(self.file)
        if new:
            self.rows.writerow(["time", "name", "step", "value"])

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Record one number."""
        self.rows.writerow([f"{time.time():.1f}", name, step, repr(value)])

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class WandbWriter:
    """A run at Weights & Biases; continues the run of the same folder.

    Args:
        project: its name there.
        folder: OUTPUT_DIR, whose name the run gets.
        settings: the configuration, shown beside the curves.
    Raises: ConfigError: it cannot be reached.
    """

    def __init__(self, project: str, folder: Path, settings: dict[str, Any]) -> None:
        import wandb

        name = folder.resolve().name
        try:
            self.run = wandb.init(project=project, name=name, id=name, resume="allow", dir=str(folder), config=settings)
        except Exception as error:  # its errors have no common base; all are about account, project or network
            raise ConfigError(f"SOLVER.WANDB {project}: {error}; log in with `wandb login`, or empty the key") from None

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Record one number; every curve counts its own steps."""
        self.run.log({name: value, f"{name.partition('/')[0]}/step": step})

    def close(self) -> None:
        """Send what is left."""
        self.run.finish()


def check_folder(folder: Path) -> None:
    """OutputError where TensorBoard cannot write to the folder."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"{folder}: TensorBoard cannot write to a folder whose name is not UTF-8; name another folder (OUTPUT_DIR)"
        ) from None


def check_wandb() -> None:
    """ConfigError where the package is not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "SOLVER.WANDB needs the package wandb; install it with: pip install 'svllreid[wandb]', or empty the key"
        )


def open_writers(folder: Path, wandb: str, settings: dict[str, Any]) -> list[Writer]:
    """The writers of a run.

    Args:
        folder: OUTPUT_DIR.
        wandb: project at Weights & Biases; empty: none.
        settings: the configuration as a plain tree.
    """
    writers: list[Writer] = [SummaryWriter(str(folder)), CsvWriter(folder / "scalars.csv")]
    return [*writers, WandbWriter(wandb, folder, settings)] if wandb else writers

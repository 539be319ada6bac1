"""Where a run's scalars are recorded: TensorBoard's events, a CSV file, Weights & Biases; a registry of writers."""

from __future__ import annotations

import csv
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from svllreid.errors import ConfigError, OutputError


class Writer(Protocol):
    """Records scalars by name and step."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Records one number."""

    def close(self) -> None:
        """Writes what is left; nothing is recorded afterwards."""


class CsvWriter:
    """Appends a line per number to a CSV file: seconds since 1970, name, step, value.

    Args:
        path: the file; a continued run appends to it.
    """

    def __init__(self, path: Path) -> None:
        new = not path.is_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a", newline="", encoding="utf-8", buffering=1)
        self.rows = csv.writer(self.file)
        if new:
            self.rows.writerow(["time", "name", "step", "value"])

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Records one number."""
        self.rows.writerow([f"{time.time():.1f}", name, step, repr(value)])

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


class WandbWriter:
    """A run at Weights & Biases, named after the output folder; the same folder continues the same run.

    Args:
        folder: the output folder.
        project: the project's name at Weights & Biases.
        configuration: shown beside the curves.
    Raises: ConfigError: Weights & Biases cannot be reached or refuses the account or project.
    """

    def __init__(self, folder: Path, project: str, configuration: dict[str, Any]) -> None:
        import wandb

        name = folder.resolve().name
        options: dict[str, Any] = {"id": name, "resume": "allow", "dir": str(folder), "config": configuration}
        try:
            self.run = wandb.init(project=project, name=name, **options)
        except Exception as error:  # its errors have no common base; all are about account, project or network
            raise ConfigError(
                f"Weights & Biases, project {project}: {error}; log in with `wandb login`, or name no project",
                settings=("Weights & Biases",),
            ) from None

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Records one number. The curves of each stage have a step axis of their own."""
        self.run.log({name: value, f"{name.partition('/')[0]}/step": step})

    def close(self) -> None:
        """Sends what is left."""
        self.run.finish()


# Every writer by its name, with what opens it: called with the output folder, the project where the writer has one,
# and the configuration as a plain tree.
WRITERS: dict[str, Callable[[Path, str, dict[str, Any]], Writer]] = {
    "tensorboard": lambda folder, project, configuration: SummaryWriter(str(folder)),
    "csv": lambda folder, project, configuration: CsvWriter(folder / "scalars.csv"),
    "wandb": WandbWriter,
}
# Writers of every run; the others are used where a project is given.
ALWAYS = ("tensorboard", "csv")


def open_writers(folder: Path, projects: Mapping[str, str], configuration: dict[str, Any]) -> list[Writer]:
    """Opens the writers of a run: those in ALWAYS, and every other one that a project is given for.

    Args:
        folder: the output folder.
        projects: the project of each writer that sends scalars to a service, by the writer's name; empty for none.
        configuration: the run's configuration as a plain tree.
    """
    return [
        opener(folder, projects.get(name, ""), configuration)
        for name, opener in WRITERS.items()
        if name in ALWAYS or projects.get(name)
    ]


def check_folder(folder: Path) -> None:
    """Checks that TensorBoard can write to a folder.

    Raises: OutputError: the folder's name is not UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"{folder}: TensorBoard cannot write to a folder whose name is not UTF-8; name another output folder",
            settings=("output folder",),
        ) from None


def check_wandb() -> None:
    """Checks that the package wandb is installed.

    Raises: ConfigError: it is not.
    """
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "recording at Weights & Biases needs the package wandb; install it with: pip install 'svllreid[wandb]', or "
            "name no project",
            settings=("Weights & Biases",),
        )

"""The folder of a training run: the names of its files, whether a stage is finished, and what is removed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from svllreid.build import entries
from svllreid.config import Config
from svllreid.config.schema import Stage1, Stage2
from svllreid.errors import OutputError
from svllreid.files import user_path
from svllreid.jobs.predicted_files import RunFiles
from svllreid.models.reid import SVLLReID
from svllreid.runtime.writers import check_folder
from svllreid.training.state import read_progress

LOCK_SECONDS = 15.0


def output_dir(config: Config) -> Path:
    """The folder of a training run's files: OUTPUT_DIR, or one named after the datasets and the backbone.

    Raises: OutputError: OUTPUT_DIR cannot be written to.
    """
    if config.output_dir:
        folder = user_path(config.output_dir)
        check_folder(folder)
        return folder
    names = "+".join(entry.partition(":")[0] for entry in entries(config.datasets.names))
    return Path("outputs") / f"{names}_{config.model.name}"


def settings_of(config: Config, stage: int) -> Stage1 | Stage2:
    """The settings of stage 1 or 2."""
    return config.solver.stage1 if stage == 1 else config.solver.stage2


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and the names of its files.

    Args:
        path: the folder, OUTPUT_DIR.
        name: name of the backbone, with which the names of checkpoints begin.
    """

    path: Path
    name: str

    @property
    def config(self) -> Path:
        """The file with the configuration of the run."""
        return self.path / "config.yml"

    @property
    def changes(self) -> Path:
        """The record of the keys that were changed when the run was continued."""
        return self.path / "config_changes.json"

    @property
    def metrics(self) -> Path:
        """The metrics of the last epoch."""
        return self.path / "metrics.json"

    @property
    def best(self) -> Path:
        """The checkpoint of the best evaluation."""
        return self.path / f"{self.name}_best.pth"

    def checkpoint(self, stage: int, epoch: int) -> Path:
        """The checkpoint of an epoch, under its published name."""
        return self.path / (f"{self.name}_stage1_{epoch}.pth" if stage == 1 else f"{self.name}_{epoch}.pth")

    def final(self, config: Config, stage: int) -> Path:
        """The checkpoint of a stage's last epoch."""
        return self.checkpoint(stage, settings_of(config, stage).max_epochs)

    def state(self, stage: int) -> Path:
        """The saved state from which a stage is continued."""
        return self.path / "state" / f"stage{stage}.pt"

    def is_finished(self, config: Config, stage: int) -> bool:
        """Whether the last checkpoint of the stage exists and the hooks after its last epoch have run.

        If the saved state has been removed, the checkpoint alone decides.
        """
        if not self.final(config, stage).is_file():
            return False
        progress = read_progress(self.state(stage))
        return progress is None or progress.settled >= settings_of(config, stage).max_epochs

    def clear(self, stages: Sequence[int], *, logs: bool, keep: Path | None) -> None:
        """Remove the files of an earlier run.

        Args:
            stages: the stages whose files are removed.
            logs: whether the logs are removed too.
            keep: a checkpoint that is not removed, nor its .json.
        """
        removed = []
        patterns = []
        if 1 in stages:
            removed += self.numbered(1)
            patterns += ["state/stage1.*", "state/image_features.safetensors"]
        if 2 in stages:
            removed += [*self.numbered(2), self.best]
            patterns += ["state/stage2.*", "metrics.json", "queries.csv", "ranklist.png", "report.html"]
        if logs:
            patterns += ["log.txt", "scalars.csv", "events.out.tfevents.*", "config_changes.json"]
        removed += [file.with_suffix(".json") for file in removed]
        removed += [file for pattern in patterns for file in self.path.glob(pattern)]
        kept = [] if keep is None else [keep.resolve(), keep.with_suffix(".json").resolve()]
        for file in removed:
            if file.resolve() not in kept:
                file.unlink(missing_ok=True)

    def numbered(self, stage: int) -> list[Path]:
        """The checkpoints of a stage that are named after their epochs, in the order of these.

        Other files that a user keeps beside them, such as `tiny_backup.pth`, are not among them.
        """
        prefix = f"{self.name}_stage1_" if stage == 1 else f"{self.name}_"
        epochs = [
            int(match[1])
            for file in (self.path.iterdir() if self.path.is_dir() else ())
            if (match := re.fullmatch(rf"{re.escape(prefix)}([1-9]\d*)\.pth", file.name))
        ]
        return [self.checkpoint(stage, epoch) for epoch in sorted(epochs)]

    def keep_last(self, count: int, epoch: int) -> None:
        """Remove all but the last `count` of stage 2's numbered checkpoints up to an epoch; 0 keeps all.

        Those of later epochs are of another run, and neither removed nor counted.
        """
        own = [self.checkpoint(2, number) for number in range(1, epoch + 1)]
        numbered = [file for file in own if file.is_file()]
        for file in numbered[: max(0, len(numbered) - count)] if count else []:
            file.unlink()
            file.with_suffix(".json").unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process trains in the folder, which is made if it does not exist.

        A killed process lets go of the folder; its loading processes, which end some seconds later, are waited for.

        Raises: OutputError: another process is training in it.
        """
        from filelock import FileLock, Timeout

        file = self.path / "state" / "lock"
        lock = FileLock(file, thread_local=False)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise OutputError(
                f"another process is training in {self.path}; wait until it has ended, or name another output folder",
                settings=("output folder",),
            ) from None
        except (OSError, NotImplementedError):
            pass  # no locks on this file system; a folder that cannot be written to is reported with its first file
        try:
            yield
        finally:
            lock.release()

    def check_space(self, model: SVLLReID, config: Config) -> None:
        """Check that the disk has space for the checkpoints and states of the run that are not there yet.

        Raises: OutputError: it has not.
        """
        files = RunFiles.of(model, config)
        there = [*self.numbered(1), *self.numbered(2), self.best, self.state(1), self.state(2)]
        # A file is written beside the one that it replaces.
        needed = files.left + max(files.largest_state, files.checkpoint)
        needed -= sum(file.stat().st_size for file in there if file.is_file())
        place = self.path.resolve()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < needed:
            raise OutputError(
                f"{self.path} needs about {needed / 1e9:.1f} GB for checkpoints and the state to continue from, and "
                f"its disk has {free / 1e9:.1f} GB free; free space, or name another folder (OUTPUT_DIR)"
            )

"""The files of a run that is predicted: their sizes, and how long training waits for them to be written."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from svllreid.config import Config
from svllreid.config.schema import Stage1, Stage2
from svllreid.errors import OutputError
from svllreid.models.reid import SVLLReID
from svllreid.training.state import snapshot

WRITTEN_BYTES = 256 << 20


@dataclass(frozen=True)
class StageFiles:
    """The files of a stage.

    Args:
        epochs: of the stage; a state is saved after each.
        state: bytes of a state: what is trained, two moments of it, and the average of the weights if one is kept.
        checkpoints: after how many of the epochs a checkpoint is written.
    """

    epochs: int
    state: int
    checkpoints: int

    def waited(self, epoch_seconds: float, copying: float, writing: float) -> float:
        """Seconds that training waits for the states of the stage.

        A state is copied, then written while the next epoch is trained. Training waits for the copy, and for what the
        write takes longer than an epoch. Where a checkpoint is due, it waits for the whole write.

        Args:
            epoch_seconds: of the steps of an epoch.
            copying, writing: bytes a second.
        """
        exceeding = max(0.0, self.state / writing - epoch_seconds)
        return (
            self.epochs * self.state / copying
            + self.checkpoints * self.state / writing
            + (self.epochs - self.checkpoints) * exceeding
        )


@dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    Args:
        stages: of each stage, by its name.
        checkpoint: bytes of a checkpoint.
        best: how often the best checkpoint is written, at most.
        removed: how many checkpoints of stage 2 are removed again, see SOLVER.KEEP_LAST.
    """

    stages: dict[str, StageFiles]
    checkpoint: int
    best: int
    removed: int = 0

    @classmethod
    def of(cls, model: SVLLReID, config: Config) -> RunFiles:
        """From the sizes of a model's weights, and how often the configuration saves."""

        def size(prefixes: tuple[str, ...]) -> int:
            state = model.state_dict().items()
            return sum(v.numel() * v.element_size() for name, v in state if name.startswith(prefixes))

        solver, whole = config.solver, size(("",))
        trained: dict[str, tuple[Stage1 | Stage2, int]] = {}
        if config.model.use_text:
            trained["stage 1"] = (solver.stage1, size(("prompt_learner.cls_ctx",)))
        trained["stage 2"] = (solver.stage2, whole - size(("prompt_learner.", "text_encoder.")))
        stages = {}
        for name, (stage, weights) in trained.items():
            averages = 1 if isinstance(stage, Stage2) and stage.ema_decay else 0
            due = _times(stage.checkpoint_period, stage.max_epochs)
            stages[name] = StageFiles(stage.max_epochs, (3 + averages) * weights, due)
        evaluations = _times(solver.stage2.eval_period, solver.stage2.max_epochs)
        removed = max(0, stages["stage 2"].checkpoints - solver.keep_last) if solver.keep_last else 0
        return cls(stages, whole, evaluations, removed)

    @property
    def largest_state(self) -> int:
        """Bytes of the copy that is in memory while a state is written."""
        return max(stage.state for stage in self.stages.values())

    @property
    def written(self) -> int:
        """Bytes of all that is written."""
        states = sum(stage.epochs * stage.state for stage in self.stages.values())
        return states + self.checkpoint * (self.numbered + self.best)

    @property
    def left(self) -> int:
        """Bytes of the files at the end: numbered checkpoints that are kept, the best one, a state for each stage."""
        kept = self.numbered - self.removed + 1
        return self.checkpoint * kept + sum(stage.state for stage in self.stages.values())

    @property
    def numbered(self) -> int:
        """How many checkpoints that are named after their epoch are written."""
        return sum(stage.checkpoints for stage in self.stages.values())

    def waited(self, epoch_seconds: dict[str, float], copying: float, writing: float) -> float:
        """Seconds that training waits for states and checkpoints.

        Args:
            epoch_seconds: of the steps of an epoch, by the name of the stage.
            copying, writing: bytes a second, see `copied_per_second` and `written_per_second`.
        """
        states = sum(stage.waited(epoch_seconds[name], copying, writing) for name, stage in self.stages.items())
        return states + self.checkpoint * (self.numbered + self.best) / writing


def _times(period: int, epochs: int) -> int:
    """How often something happens that is due every `period` epochs, and after the last one."""
    return -(-epochs // period)


def copied_per_second(device: torch.device) -> float:
    """Bytes a second at which a state on the device is copied into memory that an earlier copy has used."""
    tensors = [torch.zeros(1 << 20, device=device) for _ in range(WRITTEN_BYTES >> 22)]  # 4 MiB each
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        snapshot(tensors)
        seconds = time.perf_counter() - start
    return 4 * (1 << 20) * len(tensors) / seconds


def written_per_second(folder: Path) -> float:
    """Bytes a second that the disk of a folder, which need not exist yet, takes.

    Raises: OutputError: nothing can be written there.
    """
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(dir=place) as file:
            start = time.perf_counter()
            file.write(os.urandom(1 << 20) * (WRITTEN_BYTES >> 20))
            file.flush()
            os.fsync(file.fileno())
            return WRITTEN_BYTES / (time.perf_counter() - start)
    except OSError as error:
        raise OutputError(
            f"the speed of the disk could not be measured with {WRITTEN_BYTES >> 20} MiB in {place}: {error.strerror}; "
            "name another folder",
            settings=("output folder",),
        ) from None

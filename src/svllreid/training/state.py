"""The saved state from which a killed run continues: weights under training, optimiser, progress and best result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svllreid.errors import CheckpointError
from svllreid.files import atomic_write, write_json
from svllreid.models.weight_file import UNREADABLE, fault_of, read_torch
from svllreid.types import Pid, SideRows


@dataclass
class TrainingProgress:
    """How far a stage is trained.

    The states of random generators are not part of it, since every random draw is a function of seed, stage, epoch and
    step.

    Args:
        epoch: number of epochs trained.
        step: number of steps trained of the next epoch.
        total: number of steps trained in all epochs.
        settled: number of epochs after which the hooks have also run (checkpoint, evaluation), at most `epoch`.
        best_epoch, best: epoch and metrics of the evaluation with the highest mAP; 0 and empty before the first one.
    """

    epoch: int = 0
    step: int = 0
    total: int = 0
    settled: int = 0
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)


class StateFile:
    """The saved state of a stage: a .pt file with the weights, and a small .json next to it with the settled epoch.

    Args:
        path: the .pt file.
        pids: raw identity of each label; a state of other identities is refused.
        prompts: digest of the prompts that the stage trains against; a state of other prompts is refused. Empty where
            the stage has none, and in states of older versions.
        side_rows: the cameras and viewpoints whose rows of side information are trained; a state of others is refused.
            None where the stage trains none, and in states of older versions.
    """

    def __init__(self, path: Path, pids: list[Pid], prompts: str = "", side_rows: SideRows | None = None) -> None:
        self.path, self.pids, self.prompts = path, pids, prompts
        self.side_rows = None if side_rows is None else [list(side_rows.cameras), list(side_rows.views)]
        self.settled_path = path.with_suffix(".json")

    def save(self, progress: TrainingProgress, parts: Mapping[str, Any]) -> None:
        """Write the progress, weights and optimiser atomically; may be called in another thread, see `snapshot`.

        Args:
            progress: how far the stage is trained.
            parts: dictionaries for torch.save, by name; `load` returns them.
        """
        done = {"epoch": progress.epoch, "step": progress.step, "total": progress.total}
        content = {**done, "pids": self.pids, "prompts": self.prompts, "side_rows": self.side_rows, **parts}
        with atomic_write(self.path) as temporary:
            torch.save(content, temporary)

    def settle(self, progress: TrainingProgress) -> None:
        """Save that the hooks of the trained epoch have run, with the best result so far."""
        note = {"settled": progress.epoch, "best_epoch": progress.best_epoch, "best": progress.best}
        write_json(self.settled_path, note)

    def load(self) -> tuple[TrainingProgress, dict[str, Any]] | None:
        """The progress of the stage and the saved parts by name; None where nothing is saved.

        Raises: CheckpointError: the file cannot be read, or belongs to other identities, prompts or cameras.
        """
        saved = _read(self.path)
        if saved is None:
            return None
        progress, content = saved
        if content.pop("pids") != self.pids:
            raise CheckpointError(
                f"{self.path} was trained on other identities than the dataset has now; start over", ("starting over",)
            )
        if self.prompts and content.pop("prompts", "") not in ("", self.prompts):
            raise CheckpointError(
                f"{self.path} was trained against other prompts than stage 1 has now; train stage 2 again from its "
                "start, or name another output folder",
                ("stage", "starting over", "output folder"),
            )
        if self.side_rows and content.pop("side_rows", None) not in (None, self.side_rows):
            raise CheckpointError(
                f"{self.path} was trained with other cameras or viewpoints than the dataset has now; start over",
                ("starting over",),
            )
        return progress, content


def snapshot(tree: Any) -> Any:
    """A copy of a tree of dicts, lists and tensors in the machine's main memory, which later training does not change.

    From a GPU, tensors are copied into pinned memory, all in one go. When the function returns, the copy is complete.

    >>> weight = torch.zeros(2)
    >>> copy = snapshot({"model": {"weight": weight}})
    >>> weight += 1
    >>> copy
    {'model': {'weight': tensor([0., 0.])}}
    """
    copied = _copy(tree)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return copied


def _copy(tree: Any) -> Any:
    """The copied tree; copies from a GPU may not be complete yet."""
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_copy(value) for value in tree]
    if not isinstance(tree, Tensor):
        return tree
    value = tree.detach()
    return torch.empty_like(value, device="cpu", pin_memory=value.is_cuda).copy_(value, non_blocking=value.is_cuda)


def read_progress(path: Path) -> TrainingProgress | None:
    """The progress of a saved stage; None where nothing is saved. Its tensors are not read into memory.

    Args:
        path: the .pt file.
    Raises: CheckpointError: the file cannot be read.
    """
    saved = _read(path, mmap=True)
    return None if saved is None else saved[0]


def _read(path: Path, *, mmap: bool = False) -> tuple[TrainingProgress, dict[str, Any]] | None:
    if not path.is_file():
        return None
    settled_path = path.with_suffix(".json")
    try:
        content = read_torch(path, mmap=mmap)
        settled = json.loads(settled_path.read_text("utf-8")) if settled_path.is_file() else {}
        done = {name: content.pop(name) for name in ("epoch", "step", "total")}
        # A .json with more settled epochs than are trained belongs to an earlier run, whose .pt has been removed.
        progress = TrainingProgress(**done, **(settled if settled.get("settled", 0) <= done["epoch"] else {}))
        counts = {name: value for name, value in vars(progress).items() if name != "best"}
        if any(type(value) is not int or value < 0 for value in counts.values()) or type(progress.best) is not dict:
            raise ValueError(f"progress is {progress}")
        if type(content.get("pids")) is not list:
            raise KeyError("pids")
    except UNREADABLE as error:
        raise CheckpointError(
            f"{path} cannot be read: it {fault_of(path, error).what}; remove it to train the stage again from its "
            "start, or start over",
            ("starting over",),
        ) from None
    return progress, content

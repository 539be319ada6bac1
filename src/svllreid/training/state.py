"""What continuing a run needs, in OUTPUT_DIR/state: weights under training, optimiser, how far, best result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from svllreid.errors import CheckpointError
from svllreid.files import write_beside, write_json
from svllreid.models.weight_file import UNREADABLE, fault_of, read_torch
from svllreid.types import Pid


@dataclass
class Progress:
    """How far a stage is. Every random draw is a function of seed, stage, epoch and step, so no generator is kept.

    Args:
        epoch: epochs trained.
        step: steps trained of the epoch after that.
        total: steps trained in all.
        settled: epochs evaluated and kept, at most `epoch`.
        best_epoch, best: epoch and metrics of the best evaluation by mAP.
    """

    epoch: int = 0
    step: int = 0
    total: int = 0
    settled: int = 0
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)


class StateFile:
    """The state of a stage: weights in a .pt file, and in a small .json beside it which epoch is settled.

    Args:
        path: the .pt file.
        pids: raw identity of each label; a state of others is refused.
    """

    def __init__(self, path: Path, pids: list[Pid]) -> None:
        self.path, self.pids = path, pids
        self.settled_path = path.with_suffix(".json")

    def save(self, progress: Progress, parts: Mapping[str, Any]) -> None:
        """Write weights and optimiser, beside and renamed."""
        done = {"epoch": progress.epoch, "step": progress.step, "total": progress.total}
        content = {**done, "pids": self.pids, **parts}
        with write_beside(self.path) as temporary:
            torch.save(content, temporary)

    def settle(self, progress: Progress) -> None:
        """Note that the epoch is evaluated and kept."""
        progress.settled = progress.epoch
        write_json(
            self.settled_path,
            {"settled": progress.settled, "best_epoch": progress.best_epoch, "best": progress.best},
        )

    def load(self) -> tuple[Progress, dict[str, Any]] | None:
        """How far the stage is and the saved parts, None where nothing is saved.

        Raises: CheckpointError: it cannot be read, or belongs to other identities.
        """
        if not self.path.is_file():
            return None
        try:
            content = read_torch(self.path)
            settled = json.loads(self.settled_path.read_text("utf-8")) if self.settled_path.is_file() else {}
            done = {name: content.pop(name) for name in ("epoch", "step", "total")}
            # Of an earlier run, whose state has been removed.
            progress = Progress(**done, **(settled if settled.get("settled", 0) <= done["epoch"] else {}))
            pids = content.pop("pids")
        except UNREADABLE as error:
            raise CheckpointError(
                f"{self.path} cannot be read: it {fault_of(self.path, error).what}; remove it to start the stage over, "
                "or use --fresh"
            ) from None
        if pids != self.pids:
            raise CheckpointError(
                f"{self.path} was trained on other identities than the dataset has now; start over with --fresh"
            )
        return progress, content

"""What continuing a run needs, in OUTPUT_DIR/state: weights under training, optimiser, epoch, best result."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from svllreid.errors import CheckpointError
from svllreid.files import write_beside
from svllreid.types import Pid


@dataclass
class Progress:
    """How far a stage is. Every random draw is a function of seed, stage, epoch and step, so no generator is kept.

    Args:
        epoch: epochs done.
        best_epoch, best: epoch and metrics of the best evaluation by mAP.
    """

    epoch: int = 0
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)


def save_state(
    path: Path,
    progress: Progress,
    pids: list[Pid],
    model: dict[str, torch.Tensor],
    optimizer: dict[str, Any],
    scaler: dict[str, Any],
) -> None:
    """Write the state of a stage beside and rename it."""
    content = {"progress": vars(progress), "pids": pids, "model": model, "optimizer": optimizer, "scaler": scaler}
    with write_beside(path) as temporary:
        torch.save(content, temporary)


def load_state(path: Path, pids: list[Pid]) -> dict[str, Any] | None:
    """The saved state of a stage, None where there is none.

    Raises: CheckpointError: it cannot be read, or belongs to other identities than `pids`.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = {**content, "progress": Progress(**content["progress"])}
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); remove it to start the stage over, or use --fresh"
        ) from None
    if state["pids"] != pids:
        raise CheckpointError(
            f"{path} was trained on other identities than the dataset has now; start over with --fresh"
        )
    return state

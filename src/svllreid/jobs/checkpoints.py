"""The checkpoints of a run: written after epochs, kept or removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import svllreid
from svllreid import build
from svllreid.config import Config
from svllreid.jobs.run_folder import RunFolder, settings_of
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint
from svllreid.models.reid import SVLLReID
from svllreid.runtime.background import BackgroundWriter
from svllreid.training.hooks import Hook
from svllreid.training.sharding import full_tensors
from svllreid.training.state import TrainingProgress


@dataclass(frozen=True)
class Checkpoints:
    """Writes the checkpoints of a run, each with its .json.

    Args:
        folder: the folder and file names of the run.
        config: the configuration of the run.
        data: the training data, which numbers identities, cameras and viewpoints.
        writes: whether this process writes files; the other processes only take part in gathering sharded weights.
        writer: writes the state in the background; a checkpoint is written after it, and so are removals.
        changes: the record of changed keys, see `CheckpointInfo`.
    """

    folder: RunFolder
    config: Config
    data: build.TrainingData
    writes: bool
    writer: BackgroundWriter
    changes: Sequence[dict[str, Any]] = ()

    def save(self, model: SVLLReID, stage: int, epoch: int, file: Path) -> None:
        """Write a checkpoint of the model after an epoch of a stage; all processes must call it."""
        state = full_tensors(model.state_dict())
        if not self.writes:
            return
        rows = self.data.side_rows
        info = CheckpointInfo(
            config=self.config.to_yaml_tree(),
            num_classes=len(self.data.labels),
            num_cameras=rows.num_cameras,
            num_views=rows.num_views,
            pids=list(self.data.labels),
            stage=stage,
            epoch=epoch,
            version=svllreid.__version__,
            cameras=list(rows.cameras),
            views=list(rows.views),
            listings=dict(self.data.origin.listings),
            changes=list(self.changes),
        )
        self.writer.wait()
        save_checkpoint(file, model, info, state)

    def save_best(self, model: SVLLReID, epoch: int, score: dict[str, Any], progress: TrainingProgress) -> None:
        """Write the checkpoint of the best evaluation if this evaluation is the best so far.

        Args:
            model: the evaluated model.
            epoch: counted from 1.
            score: the metrics, with `mAP`, and under `measured` the test sets and settings that they were measured
                with. Where these differ from those of the best so far, the two do not compare, and this one is kept.
            progress: holds the best score so far; a better one is stored in it.
        """
        same_measure = progress.best.get("measured", score["measured"]) == score["measured"]
        if not same_measure or score["mAP"] > progress.best.get("mAP", -1.0):
            progress.best_epoch, progress.best = epoch, score
            self.save(model, 2, epoch, self.folder.best)


class PeriodicCheckpoints(Hook):
    """Writes checkpoints after every CHECKPOINT_PERIOD epochs of a stage and after the last one; removes old ones.

    Args:
        checkpoints: writes the checkpoints.
        model: the model under training.
        stage: 1 or 2; of the checkpoints of stage 2 the last SOLVER.KEEP_LAST are kept.
    """

    def __init__(self, checkpoints: Checkpoints, model: SVLLReID, stage: int) -> None:
        self.checkpoints, self.model, self.stage = checkpoints, model, stage

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Write the checkpoint of the epoch if one is due."""
        folder, config = self.checkpoints.folder, self.checkpoints.config
        settings = settings_of(config, self.stage)
        if epoch % settings.checkpoint_period == 0 or epoch == settings.max_epochs:
            self.checkpoints.save(self.model, self.stage, epoch, folder.checkpoint(self.stage, epoch))
            if self.stage == 2:
                folder.keep_last(config.solver.keep_last, epoch)

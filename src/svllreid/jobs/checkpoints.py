"""Which checkpoints a run writes, and which it keeps."""

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
from svllreid.training.hooks import Hook
from svllreid.training.sharding import full_tensors
from svllreid.training.state import TrainingProgress


@dataclass(frozen=True)
class Checkpoints:
    """Writes the checkpoints of a run, each with its .json.

    Args:
        folder: the run's files.
        config: the configuration it trains under.
        data: its training data, which numbers identities, cameras and viewpoints.
        writes: whether this process writes files; the others only take part in gathering sharded weights.
        changes: the record of changed keys, see `CheckpointInfo`.
    """

    folder: RunFolder
    config: Config
    data: build.TrainingData
    writes: bool
    changes: Sequence[dict[str, Any]] = ()

    def save(self, model: SVLLReID, stage: int, epoch: int, file: Path) -> None:
        """Write one checkpoint."""
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
        save_checkpoint(file, model, info, state)

    def save_best(self, model: SVLLReID, epoch: int, score: dict[str, Any], progress: TrainingProgress) -> None:
        """Write the checkpoint of the best evaluation, if this one is the best so far.

        Args:
            score: `mAP`, and under `measured` what it was measured on: scores of two different measurements do not
                compare, so the later one counts.
            progress: holds the best score so far; a better one is noted in it.
        """
        same_measure = progress.best.get("measured", score["measured"]) == score["measured"]
        if not same_measure or score["mAP"] > progress.best.get("mAP", -1.0):
            progress.best_epoch, progress.best = epoch, score
            self.save(model, 2, epoch, self.folder.best)


class PeriodicCheckpoints(Hook):
    """After every CHECKPOINT_PERIOD epochs of a stage, and after the last one, writes a checkpoint; removes old ones.

    Args:
        checkpoints: writes them.
        model: under training.
        stage: 1 or 2; of stage 2's checkpoints the last SOLVER.KEEP_LAST are kept.
    """

    def __init__(self, checkpoints: Checkpoints, model: SVLLReID, stage: int) -> None:
        self.checkpoints, self.model, self.stage = checkpoints, model, stage

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Write the epoch's checkpoint where it is due."""
        folder, config = self.checkpoints.folder, self.checkpoints.config
        settings = settings_of(config, self.stage)
        if epoch % settings.checkpoint_period == 0 or epoch == settings.max_epochs:
            self.checkpoints.save(self.model, self.stage, epoch, folder.checkpoint(self.stage, epoch))
            if self.stage == 2:
                folder.keep_last(config.solver.keep_last)

"""Which checkpoints a run writes, and which it keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import svllreid
from svllreid import build
from svllreid.config import Config
from svllreid.jobs.run_folder import RunFolder, settings_of
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint
from svllreid.models.reid import SVLLReID
from svllreid.training.sharding import whole
from svllreid.training.state import TrainingProgress


@dataclass
class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: the run's files.
        config: the configuration it trains under.
        data: its training data, which numbers identities, cameras and views.
        writes: whether this process writes files; the others only take part in gathering sharded weights.
        changes: the record of changed keys, see `CheckpointInfo`.
    """

    folder: RunFolder
    config: Config
    data: build.TrainingData
    writes: bool
    changes: list[dict[str, Any]] = field(default_factory=list)

    def after_epoch(self, model: SVLLReID, stage: int, epoch: int) -> None:
        """Write the checkpoint of an epoch where CHECKPOINT_PERIOD says so and of the last, and remove old ones."""
        settings = settings_of(self.config, stage)
        if epoch % settings.checkpoint_period == 0 or epoch == settings.max_epochs:
            self.save(model, stage, epoch, self.folder.checkpoint(stage, epoch))
            if stage == 2:
                self.folder.keep_last(self.config.solver.keep_last)

    def keep_best(self, model: SVLLReID, epoch: int, score: dict[str, Any], progress: TrainingProgress) -> None:
        """Write the checkpoint of the best evaluation where this is the best yet.

        Args:
            score: `mAP`, and under `measured` what it was measured on: numbers of another measure do not compare.
            progress: holds the best score so far, and takes up a better one.
        """
        same_measure = progress.best.get("measured", score["measured"]) == score["measured"]
        if not same_measure or score["mAP"] > progress.best.get("mAP", -1.0):
            progress.best_epoch, progress.best = epoch, score
            self.save(model, 2, epoch, self.folder.best)

    def save(self, model: SVLLReID, stage: int, epoch: int, file: Path) -> None:
        """Write a checkpoint and the .json beside it."""
        state = whole(model.state_dict())
        if not self.writes:
            return
        info = CheckpointInfo(
            config=self.config.to_yaml_tree(),
            num_classes=len(self.data.labels),
            num_cameras=self.data.side_rows.num_cameras,
            num_views=self.data.side_rows.num_views,
            pids=list(self.data.labels),
            stage=stage,
            epoch=epoch,
            version=svllreid.__version__,
            cameras=list(self.data.side_rows.cameras),
            views=list(self.data.side_rows.views),
            listings=dict(self.data.origin.listings),
            changes=self.changes,
        )
        save_checkpoint(file, model, info, state)

"""What is measured while a run trains: the prompts of stage 1, the test sets of stage 2."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lightning.fabric import Fabric

from svllreid.evaluation.similarity import mean_similarity
from svllreid.jobs.checkpoints import Checkpoints
from svllreid.jobs.result_page import headline
from svllreid.jobs.testing import Measured, TestSet, measure, write_tests
from svllreid.models.reid import SVLLReID
from svllreid.runtime.progress import LiveReport
from svllreid.training.hooks import Hook
from svllreid.training.state import TrainingProgress

logger = logging.getLogger(__name__)

SIMILARITY_PERIOD = 10


class PromptSimilarity(Hook):
    """After every ten epochs of stage 1 and the last one, reports how alike the prompts of two identities are.

    Args:
        model: whose prompts are learned.
        max_epochs: of the stage.
        report: records the number.
    """

    def __init__(self, model: SVLLReID, max_epochs: int, report: LiveReport) -> None:
        self.model, self.max_epochs, self.report = model, max_epochs, report

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Measure the prompts, where it is due."""
        if epoch % SIMILARITY_PERIOD == 0 or epoch == self.max_epochs:
            similarity = mean_similarity(self.model.encode_all_text())
            self.report.scalars("eval", {"prompt_similarity": similarity}, epoch)
            logger.info("epoch %d: mean cosine between the prompts of two identities %.4f", epoch, similarity)


class Evaluation(Hook):
    """After every EVAL_PERIOD epochs of stage 2 and the last one, measures the test sets and keeps the best checkpoint.

    The results of the last epoch are also written as files, see `write_tests`.

    Args:
        tests: the test sets, at least one.
        model: under training.
        checkpoints: writes the checkpoint of the best evaluation; names the run's folder and configuration.
        fabric: device and processes; each process embeds a share of the images.
        report: shows progress and records the metrics.
    Attributes:
        metrics: what metrics.json holds of the last epoch; empty before it, and on other processes than the first.
    """

    def __init__(
        self,
        tests: Sequence[TestSet],
        model: SVLLReID,
        checkpoints: Checkpoints,
        fabric: Fabric,
        report: LiveReport,
    ) -> None:
        self.tests, self.model, self.checkpoints = tests, model, checkpoints
        self.fabric, self.report = fabric, report
        self.metrics: dict[str, Any] = {}

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Evaluate, where it is due."""
        folder, config = self.checkpoints.folder, self.checkpoints.config
        is_last = epoch == config.solver.stage2.max_epochs
        if epoch % config.solver.stage2.eval_period == 0 or is_last:
            measured = [measure(test, self.model, self.fabric, self.report, analysed=is_last) for test in self.tests]
            self.checkpoints.save_best(self.model, epoch, self._score(measured, epoch), progress)
            if is_last:
                weight = folder.final(config, 2)
                self.metrics = write_tests(folder.path, measured, len(self.tests), weight)

    def _score(self, measured: Sequence[Measured | None], epoch: int) -> dict[str, Any]:
        """Report an evaluation; its metrics, of several test sets by name, with the mean of their mAP."""
        by_name = {one.features.name: one.outcome.metrics for one in measured if one is not None}
        by_name = self.fabric.broadcast(by_name)
        for name, metrics in by_name.items():
            self.report.scalars("eval" if len(by_name) == 1 else f"eval/{name}", metrics, epoch)
            logger.info("epoch %d: %s%s", epoch, f"{name} " * (len(by_name) > 1), headline(metrics))
        settings = self.checkpoints.config.test.model_dump(mode="json", exclude={"weight", "ims_per_batch", "far"})
        return {
            **(next(iter(by_name.values())) if len(by_name) == 1 else {"datasets": by_name}),
            "mAP": sum(metrics["mAP"] for metrics in by_name.values()) / len(by_name),
            "measured": {"datasets": list(by_name), **settings},
        }

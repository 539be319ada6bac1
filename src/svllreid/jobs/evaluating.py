"""Hooks that evaluate during training: the similarity of the prompts in stage 1, the test sets in stage 2."""

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
    """Reports how similar the prompts of two identities are, after every ten epochs of stage 1 and after the last one.

    Args:
        model: the model whose prompts are trained.
        max_epochs: number of epochs of the stage.
        report: records the number.
    """

    def __init__(self, model: SVLLReID, max_epochs: int, report: LiveReport) -> None:
        self.model, self.max_epochs, self.report = model, max_epochs, report

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Measure and report the similarity if it is due."""
        if epoch % SIMILARITY_PERIOD == 0 or epoch == self.max_epochs:
            similarity = mean_similarity(self.model.encode_all_text())
            self.report.scalars("eval", {"prompt_similarity": similarity}, epoch)
            logger.info("epoch %d: mean cosine between the prompts of two identities %.4f", epoch, similarity)


class Evaluation(Hook):
    """Evaluates on the test sets after every EVAL_PERIOD epochs of stage 2 and after the last one.

    It keeps the checkpoint of the best evaluation, and after the last epoch it writes the files of a test, see
    `write_tests`.

    Args:
        tests: the test sets, at least one.
        model: the model under training.
        checkpoints: writes the checkpoint of the best evaluation; it also has the run's folder and configuration.
        fabric: device and processes; each process embeds a share of the images.
        report: shows the progress and records the metrics.
    Attributes:
        metrics: the metrics of the last epoch, as metrics.json holds them. Empty before it, and on all processes but
            the first.
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
        """Evaluate if it is due."""
        folder, config = self.checkpoints.folder, self.checkpoints.config
        is_last = epoch == config.solver.stage2.max_epochs
        if epoch % config.solver.stage2.eval_period == 0 or is_last:
            measured = [measure(test, self.model, self.fabric, self.report, analysed=is_last) for test in self.tests]
            self.checkpoints.save_best(self.model, epoch, self._score(measured, epoch), progress)
            if is_last:
                weight = folder.final(config, 2)
                self.metrics = write_tests(folder.path, measured, len(self.tests), weight)

    def _score(self, measured: Sequence[Measured | None], epoch: int) -> dict[str, Any]:
        """Report an evaluation and return its score for `Checkpoints.save_best`.

        The score of several test sets has their metrics by name, and as `mAP` the mean of their mAP.
        """
        by_name = {result.features.name: result.outcome.metrics for result in measured if result is not None}
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

"""Hooks: objects that the epoch loop calls before each epoch, after each step and after each epoch."""

from __future__ import annotations

from svllreid.training.state import TrainingProgress


class Hook:
    """Base class of all hooks: its methods do nothing, and a subclass overrides those that it needs.

    A stage's plan lists its hooks, and the loop calls them in that order. Hooks that write checkpoints and evaluate are
    in `jobs/checkpoints.py` and `jobs/evaluating.py`.

    Example: a margin that grows over the first ten epochs of stage 2.

        class MarginWarmup(Hook):
            def __init__(self, task: Stage2Task, margin: float) -> None:
                self.task, self.margin = task, margin

            def before_epoch(self, epoch: int) -> None:
                self.task.margin = self.margin * min(1.0, epoch / 10)
    """

    def before_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch.

        Where a run continues within an epoch, it is called again before the first step of the rest.

        Args:
            epoch: counted from 1.
        """

    def after_step(self, epoch: int, step: int) -> None:
        """Called after each step of the optimiser.

        Args:
            epoch: counted from 1.
            step: counted from 1 in its epoch.
        """

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Called after each epoch, while its state is being written in the background.

        If one of the hooks fails or is interrupted, the continued run calls all of them again for the same epoch; if
        the process is killed before the state is written, it trains the epoch again first. A hook that writes a file of
        the run waits for the state before (`BackgroundWriter.wait`), so that no file is newer than the state. Where
        a weight average is kept, the model holds the average during the call.

        Args:
            epoch: counted from 1.
            progress: how far the stage is trained, and its best result. It is saved after the last hook, so a hook may
                store a better result in it.
        """

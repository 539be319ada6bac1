"""What else happens while a stage trains: objects that the loop calls before an epoch, after a step, after an epoch."""

from __future__ import annotations

from svllreid.training.state import TrainingProgress


class Hook:
    """Base of all hooks; a subclass overrides what it needs, the rest does nothing.

    A stage's plan lists its hooks, and the loop calls them in that order.

    Example: a margin that grows over the first ten epochs of stage 2.

        class MarginWarmup(Hook):
            def __init__(self, task: Stage2Task, margin: float) -> None:
                self.task, self.margin = task, margin

            def before_epoch(self, epoch: int) -> None:
                self.task.margin = self.margin * min(1.0, epoch / 10)
    """

    def before_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch, counted from 1; also where a run continues within the epoch."""

    def after_step(self, epoch: int, step: int) -> None:
        """Called when the optimiser has taken a step, counted from 1 in its epoch."""

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Called when an epoch is trained and its state saved; it is called again where that failed or was interrupted.

        Where a weight average is kept, the model holds the average during the call.

        Args:
            epoch: counted from 1.
            progress: of the stage; saved after the last hook, so a hook may note a better result in it.
        """

"""A stage that trains one weight in milliseconds: the one place of these tests that knows how a stage is made."""

import dataclasses

import pytest
import torch
from lightning.fabric import Fabric

from svllreid.runtime.background import BackgroundWriter
from svllreid.training.hooks import Hook
from svllreid.training.loop import run_stage
from svllreid.training.plan import StagePlan
from svllreid.types import StepResult


class OneWeight(torch.nn.Module):
    """Loss −w · x of batch x: a step of plain gradient descent adds lr · x to the weight, which starts at 0."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Module()
        self.model.weight = torch.nn.Parameter(torch.zeros(()))
        self.before_step = lambda: None  # tests break off here

    def forward(self, x):
        self.before_step()
        loss = -self.model.weight * x
        return StepResult(loss, {"loss_id": x.detach()}, num_images=4)


class AfterEpoch(Hook):
    """A hook that calls a function after each epoch."""

    def __init__(self, function):
        self.after_epoch = function


class Recorder:
    """What a stage reports, as it comes."""

    def __init__(self):
        self.epochs, self.steps, self.ends, self.advanced = [], [], [], 0

    def start_epoch(self, stage, epoch, max_epochs, steps, done):
        self.epochs.append((epoch, steps, done))

    def step(self, stage, step, values, lr, images_per_second):
        self.steps.append((step, values["loss_id"], lr))

    def advance(self):
        self.advanced += 1

    def end_epoch(self, stage, epoch, values):
        self.ends.append((epoch, values["loss_id"]))


class Stage:
    """A stage that trains one weight on given batches, and what came of it.

    Args:
        folder: where its state and its final file go.
        batches: of every epoch, one number each.
        after_epoch: called after each epoch; None: `evaluate`.
        options: of StagePlan, in place of those below.
    """

    def __init__(self, folder, batches, after_epoch=None, **options):
        self.task, self.report, self.settled = OneWeight(), Recorder(), []
        self.writer = BackgroundWriter()
        self.state, self.final = folder / "state" / "stage.pt", folder / "final.pth"
        group = {"params": [self.task.model.weight], "names": ["weight"], "lr_factor": 1.0}
        plan = StagePlan(
            stage="stage 1",
            task=self.task,
            optimizer=torch.optim.SGD([group], lr=1.0),
            max_epochs=1,
            lr=lambda epoch: 1.0,
            batches=lambda epoch, done: (len(batches), ((torch.tensor(float(x)),) for x in batches[done:])),
            images_of=lambda epoch, step: [f"epoch{epoch}_step{step}_{image}.jpg" for image in "ab"],
            kept=lambda name: True,
            log_period=100,
            save_period=0,
            hooks=[AfterEpoch(after_epoch or self.evaluate)],
            pids=["ann", "bob"],
            final=self.final,
        )
        self.plan = dataclasses.replace(plan, **options)

    def evaluate(self, epoch, progress):
        """Evaluates an epoch, as far as tests need it."""
        self.settled.append((epoch, self.weight))
        if epoch == self.plan.max_epochs:
            self.final.touch()

    @property
    def weight(self):
        return self.task.model.weight.item()

    def run(self):
        """Train to the end; how far the stage is then."""
        self.state.parent.mkdir(exist_ok=True)
        fabric = Fabric(accelerator="cpu", devices=1)
        return run_stage(fabric, self.plan, self.state, self.report, self.writer)


@pytest.fixture
def stage(tmp_path):
    """Makes a `Stage` in this test's folder; a second one continues what the first one saved."""
    return lambda batches, **options: Stage(tmp_path, batches, **options)

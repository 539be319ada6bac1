"""The epoch loop, on a stage of one weight whose value says which steps were taken, at which learning rate."""

import os
import signal
import threading
from contextlib import suppress

import pytest
import torch

from svllreid.errors import CheckpointError, OutputError, TrainingError
from svllreid.training.hooks import Hook
from svllreid.training.meter import LossMeter
from svllreid.training.state import StateFile, read_progress
from svllreid.types import StepResult

LONG = 60


class Break(Exception):
    """What a test ends a run with."""


def at_step(number, action):
    """Called before every step, does `action` before the step of that number, from 1."""
    calls = []

    def before_step():
        calls.append(None)
        if len(calls) == number:
            action()

    return before_step


def break_off():
    raise Break


def test_each_epoch_has_its_learning_rate(stage):
    run = stage([1, 2], max_epochs=3, lr=lambda epoch: 10.0**epoch)
    progress = run.run()
    assert run.settled == [(1, 30), (2, 330), (3, 3330)]
    assert [lr for _, _, lr in run.report.steps] == [10, 100, 1000]
    assert (progress.epoch, progress.step, progress.total, progress.settled) == (3, 0, 6, 3)


def test_reports_come_every_log_period_and_at_the_end_with_means_since_the_last(stage):
    run = stage([1, 3, 5, 7, 9], max_epochs=2, log_period=2)
    run.run()
    assert [(step, mean) for step, mean, _ in run.report.steps] == [(2, 2), (4, 6), (5, 9), (7, 2), (9, 6), (10, 9)]
    assert run.report.epochs == [(1, 5, 0), (2, 5, 0)]
    assert run.report.ends == [(1, 5), (2, 5)]
    assert run.report.advanced == 10


def test_images_are_counted_for_all_processes(stage, monkeypatch):
    import svllreid.training.meter as module

    monkeypatch.setattr(module, "num_processes", lambda: 3)
    monkeypatch.setattr(module.time, "perf_counter", iter([10.0, 12.0]).__next__)
    losses = LossMeter(stage([1]).plan, epoch=1, done=0)
    losses.add(StepResult(torch.tensor(1.0), {}, num_images=4))
    assert losses.read() == ({"loss": 1.0}, 3 * 4 / 2)


def test_fewer_steps_on_request(stage):
    run = stage([1, 2, 4, 8], max_epochs=2, max_steps=3)
    assert run.run().total == 6
    assert run.weight == 14
    assert run.report.epochs == [(1, 3, 0), (2, 3, 0)]


@pytest.mark.parametrize(("save_period", "saved"), [(2, (0, 4, 4)), (3, (0, 3, 3)), (0, None)])
def test_the_state_is_saved_every_save_period(stage, save_period, saved):
    run = stage([1, 2, 4, 8, 16, 32], save_period=save_period)
    run.task.before_step = at_step(6, break_off)
    with pytest.raises(Break):
        run.run()
    progress = read_progress(run.state)
    assert saved == (progress and (progress.epoch, progress.step, progress.total))
    again = stage([1, 2, 4, 8, 16, 32], save_period=save_period)
    again.run()
    assert again.weight == 63, "continued to where a run that nobody broke off ends"
    assert again.report.advanced == 6 - (saved[1] if saved else 0)


def test_the_end_of_an_epoch_saves_whatever_the_period(stage):
    run = stage([1, 2], max_epochs=2)
    run.task.before_step = at_step(3, break_off)
    with pytest.raises(Break):
        run.run()
    assert read_progress(run.state).epoch == 1
    again = stage([1, 2], max_epochs=2)
    again.run()
    assert (again.weight, again.settled) == (6, [(2, 6)])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_lets_the_step_end_and_saves(stage, name):
    run = stage([1, 2, 4, 8])
    run.task.before_step = at_step(2, lambda: os.kill(os.getpid(), getattr(signal, name)))
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert read_progress(run.state).step == 2
    again = stage([1, 2, 4, 8])
    again.run()
    assert (again.weight, again.report.advanced) == (15, 2)


def test_a_loss_that_is_not_finite_names_the_step_and_its_files(stage):
    run = stage([1, 2, float("nan"), 4], max_epochs=2, save_period=2)
    with pytest.raises(TrainingError, match=r"epoch 1, step 3: loss nan, loss_id nan") as error:
        run.run()
    assert "epoch1_step3_a.jpg" in str(error.value) and "epoch1_step3_b.jpg" in str(error.value)
    assert "step2" not in str(error.value)
    assert read_progress(run.state).step == 2, "the state from before is still there"


def test_a_gradient_that_is_not_finite_is_not_saved(stage):
    run = stage([1])
    run.task.model.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match=r"gradient is not finite"):
        run.run()
    assert read_progress(run.state) is None and run.settled == []


def test_an_epoch_whose_evaluation_failed_is_evaluated_again_and_not_trained_again(stage):
    run = stage([1, 2], max_epochs=2, after_epoch=lambda epoch, progress: break_off())
    with pytest.raises(Break):
        run.run()
    again = stage([1, 2], max_epochs=2)
    again.run()
    assert (again.settled, again.report.advanced) == ([(1, 3), (2, 6)], 2)


def test_hooks_are_called_before_each_epoch_after_each_step_and_after_each_epoch(stage):
    class Recording(Hook):
        def __init__(self):
            self.calls = []

        def before_epoch(self, epoch):
            self.calls.append(f"before {epoch}")

        def after_step(self, epoch, step):
            self.calls.append(f"step {epoch}.{step}")

        def after_epoch(self, epoch, progress):
            self.calls.append(f"after {epoch}, {progress.total} steps")

    hooks = [Recording(), Hook(), Recording()]
    stage([1, 2], max_epochs=2, hooks=hooks).run()
    expected = ["before 1", "step 1.1", "step 1.2", "after 1, 2 steps"]
    expected += ["before 2", "step 2.1", "step 2.2", "after 2, 4 steps"]
    assert hooks[0].calls == hooks[2].calls == expected


def test_a_finished_stage_does_nothing_unless_what_it_left_is_gone(stage):
    first = stage([1, 2])
    first.run()
    again = stage([1, 2])
    assert again.run().settled == 1 and again.settled == [] and again.report.advanced == 0
    first.final.unlink()
    last = stage([1, 2])
    last.run()
    assert last.settled == [(1, 3)] and last.report.advanced == 0


def test_the_average_is_what_is_evaluated_and_the_weights_go_on(stage):
    run = stage([1, 1], max_epochs=2, ema_decay=0.1)
    run.run()
    # decay min(0.1, 1/10, 2/11, ...) = 0.1: 0.9·1, then 0.1·0.9 + 0.9·2, and so on
    averages = [0.9]
    for weight in (2, 3, 4):
        averages.append(0.1 * averages[-1] + 0.9 * weight)
    assert [weight for _, weight in run.settled] == pytest.approx([averages[1], averages[3]])
    assert run.weight == 4


def test_the_average_is_continued_too(stage):
    run = stage([1, 1, 1], ema_decay=0.5, save_period=1)
    run.task.before_step = at_step(3, break_off)
    with pytest.raises(Break):
        run.run()
    again = stage([1, 1, 1], ema_decay=0.5)
    again.run()
    whole = stage([1, 1, 1], ema_decay=0.5)
    whole.state = whole.state.with_name("whole.pt")
    whole.run()
    assert again.settled == whole.settled != [(1, 3)]


def test_a_state_of_another_model_is_refused(stage):
    stage([1]).run()
    other = stage([1], max_epochs=2)
    other.task.model.weight = torch.nn.Parameter(torch.zeros(2))
    other.plan.optimizer.param_groups[0]["params"] = [other.task.model.weight]
    with pytest.raises(CheckpointError, match=r"is of another model .*start over"):
        other.run()


def test_a_state_of_other_identities_is_refused(stage):
    stage([1]).run()
    with pytest.raises(CheckpointError, match=r"other identities"):
        stage([1], max_epochs=2, pids=["ann", "eve"]).run()


@pytest.fixture
def saving(monkeypatch):
    """Puts a function in front of every write of the state; it gets the progress that is written."""

    def put(before):
        original = StateFile.save

        def save(self, progress, parts):
            before(progress)
            original(self, progress, parts)

        monkeypatch.setattr(StateFile, "save", save)

    return put


def test_the_next_epoch_is_trained_while_the_state_is_written_as_it_was(stage, saving):
    trained = threading.Event()
    saving(lambda progress: trained.wait(LONG))
    run, seen = stage([1, 2], max_epochs=2), []

    def look():
        seen.append(read_progress(run.state))
        trained.set()
        break_off()

    run.task.before_step = at_step(4, look)
    with pytest.raises(Break):
        run.run()
    assert seen == [None], "step 2 of epoch 2 begins, and the state of epoch 1 is not there yet"
    assert torch.load(run.state, weights_only=True)["model"]["weight"] == 3
    again = stage([1, 2], max_epochs=2)
    again.run()
    assert (again.weight, again.report.advanced) == (6, 2)


def test_a_state_waits_for_the_one_before_and_its_note(stage, saving, monkeypatch):
    written, settle = [], StateFile.settle
    saving(lambda progress: written.append((progress.epoch, progress.step)))
    monkeypatch.setattr(
        StateFile, "settle", lambda self, progress: written.append(progress.epoch) or settle(self, progress)
    )
    stage([1, 2], max_epochs=2, save_period=1).run()
    assert written == [(0, 1), (1, 0), 1, (1, 1), (2, 0), 2]


def test_a_full_disk_ends_training_after_the_step(stage, saving):
    in_step = threading.Event()

    def full(progress):
        in_step.wait(LONG)
        raise OutputError("no space left")

    def wait_for_writer():
        in_step.set()
        with suppress(OutputError):
            run.writer.wait()

    saving(full)
    run = stage([1, 2, 3], max_epochs=2)
    run.task.before_step = at_step(5, wait_for_writer)
    with pytest.raises(OutputError, match="no space left"):
        run.run()
    assert run.report.advanced == 5
    assert not run.state.exists() and not run.state.with_suffix(".json").exists()


def test_a_full_disk_in_the_last_epoch_is_not_swallowed(stage, saving):
    def full(progress):
        raise OutputError("no space left")

    saving(full)
    with pytest.raises(OutputError, match="no space left"):
        stage([1]).run()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_the_state_is_written_finishes_it(stage, saving, name):
    """Both that of the epoch before, and that of the step in which the signal came."""
    signalled = threading.Event()
    saving(lambda progress: signalled.wait(LONG))
    run = stage([1, 2, 4], max_epochs=2)
    run.task.before_step = at_step(4, lambda: os.kill(os.getpid(), getattr(signal, name)) or signalled.set())
    with pytest.raises(KeyboardInterrupt):
        run.run()
    progress = read_progress(run.state)
    assert (progress.epoch, progress.step, progress.settled) == (1, 1, 1)


def test_a_second_signal_does_not_lose_what_is_being_written(stage, saving):
    """Sent from the writer's thread, while training waits for it."""
    run = stage([1, 2, 4])
    saving(lambda progress: os.kill(os.getpid(), signal.SIGTERM))
    run.task.before_step = at_step(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert read_progress(run.state).step == 2

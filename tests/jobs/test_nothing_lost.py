"""Killed at any moment, a run continues with the same command to the same weights."""

import csv
import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from svllreid import build_model
from svllreid.cli.main import run
from svllreid.errors import ConfigError, OutputError, TrainingError
from svllreid.jobs.predicted_files import RunFiles
from svllreid.jobs.preparing import Options
from svllreid.jobs.run_folder import RunFolder
from svllreid.jobs.training import train
from svllreid.training.loop import StageRun
from svllreid.training.state import StateFile, read_progress

EVERYTHING = {
    "SOLVER.SAVE_PERIOD": 2,
    "SOLVER.STAGE2.EMA_DECAY": 0.9,
    "SOLVER.STAGE1.IMS_PER_BATCH": 6,
    "SOLVER.STAGE2.CHECKPOINT_PERIOD": 1,
}


def weights(folder):
    return torch.load(folder / "tiny_2.pth", weights_only=True)


def same(one, other):
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, small_config):
    """The weights of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(small_config({**EVERYTHING, "OUTPUT_DIR": str(folder)}))
    return weights(folder)


@pytest.mark.parametrize(("stage", "epoch", "step"), [(1, 1, 3), (1, 2, 1), (2, 1, 1), (2, 2, 2)])
def test_a_signal_waits_for_the_step_and_saves(whole, small_config, tmp_path, monkeypatch, stage, epoch, step):
    original, sent = StageRun._train, []

    def signalled(self, arguments):
        here = int(self.plan.stage[-1]), self.progress.epoch + 1, self.progress.step + 1
        if here == (stage, epoch, step) and not sent:
            sent.append(here)
            os.kill(os.getpid(), random.choice([signal.SIGINT, signal.SIGTERM]))
        return original(self, arguments)

    monkeypatch.setattr(StageRun, "_train", signalled)
    config = small_config({**EVERYTHING, "OUTPUT_DIR": str(tmp_path)})
    with pytest.raises(KeyboardInterrupt):
        train(config)
    state = torch.load(tmp_path / "state" / f"stage{stage}.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (epoch - 1, step)
    train(config)
    same(weights(tmp_path), whole)


@pytest.mark.parametrize("where", ["save_best", "save"])
def test_stopped_after_an_epoch_was_trained(whole, small_config, tmp_path, monkeypatch, where):
    """While it is evaluated, or its checkpoint written: the epoch is not trained again."""
    from svllreid.jobs.checkpoints import Checkpoints

    original, calls = getattr(Checkpoints, where), []

    def stopped(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Checkpoints, where, stopped)
    config = small_config({**EVERYTHING, "OUTPUT_DIR": str(tmp_path)})
    with pytest.raises(KeyboardInterrupt):
        train(config)
    trained = []
    epochs = StageRun._run_epoch
    monkeypatch.setattr(StageRun, "_run_epoch", lambda self, epoch: trained.append(epoch) or epochs(self, epoch))
    train(config)
    same(weights(tmp_path), whole)
    assert trained == ([] if where == "save_best" else [2])


def test_a_step_is_saved_and_the_rest_of_the_epoch_done(whole, small_config, tmp_path, monkeypatch):
    original = StageRun._train

    def killed(self, arguments):
        if self.plan.stage == "stage 1" and (self.progress.epoch, self.progress.step) == (1, 3):
            raise RuntimeError("killed")
        return original(self, arguments)

    monkeypatch.setattr(StageRun, "_train", killed)
    config = small_config({**EVERYTHING, "OUTPUT_DIR": str(tmp_path)})
    with pytest.raises(RuntimeError, match="killed"):
        train(config)
    state = torch.load(tmp_path / "state" / "stage1.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 2)
    monkeypatch.setattr(StageRun, "_train", original)
    train(config)
    same(weights(tmp_path), whole)


def test_stages_alone_equal_the_whole_from_a_trained_model_too(small_config, tmp_path):
    """The heads that fine-tuning begins with survive between the stages."""
    short = {"SOLVER.STAGE1.MAX_EPOCHS": 1, "SOLVER.STAGE2.MAX_EPOCHS": 1}
    train(small_config({**short, "OUTPUT_DIR": str(tmp_path / "first"), "SOLVER.SEED": 5}))
    start = {"MODEL.PRETRAINED": str(tmp_path / "first" / "tiny_1.pth")}
    train(small_config({**start, "OUTPUT_DIR": str(tmp_path / "whole")}))
    for stage in (1, 2):
        train(small_config({**start, "OUTPUT_DIR": str(tmp_path / "parts")}), Options(stage=stage))
    same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_ctrl_c_reaches_worker_processes_too(whole, small_arguments, tmp_path, monkeypatch, capfd):
    original, workers = StageRun._train, []

    def interrupted(self, arguments):
        if self.plan.stage == "stage 2" and not workers:
            workers.extend(multiprocessing.active_children())
            for pid in (os.getpid(), *(worker.pid for worker in workers)):
                os.kill(pid, signal.SIGINT)
        return original(self, arguments)

    def command():
        with pytest.raises(SystemExit) as end:
            run()
        return end.value.code

    monkeypatch.setattr(StageRun, "_train", interrupted)
    words = [*small_arguments, *(f"{key}={value}" for key, value in EVERYTHING.items()), f"OUTPUT_DIR={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["svllreid", "train", *words, "DATALOADER.NUM_WORKERS=2"])
    assert command() == 130
    err = capfd.readouterr().err
    assert "interrupted; the same command continues" in err and "Traceback" not in err
    assert len(workers) == 2
    assert command() == 0
    same(weights(tmp_path), whole)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_with_worker_processes(whole, small_arguments, small_config, tmp_path):
    words = [*small_arguments, *(f"{key}={value}" for key, value in EVERYTHING.items()), f"OUTPUT_DIR={tmp_path}"]
    command = [sys.executable, "-m", "svllreid", "train", *words, "DATALOADER.NUM_WORKERS=2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "state" / "stage2.pt").is_file():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; the same command continues" in err and "Traceback" not in err
    train(small_config({**EVERYTHING, "OUTPUT_DIR": str(tmp_path), "DATALOADER.NUM_WORKERS": 2}))
    same(weights(tmp_path), whole)


# Its first argument is which of the state's writes never ends; the second is when it prints that the kill may come.
STUCK = """
import sys, threading
import torch
from svllreid.cli.main import run
from svllreid.training.loop import StageRun
from svllreid.training.state import StateFile

number, when, saves, train = int(sys.argv.pop(1)), sys.argv.pop(1), [], StageRun._train
begun = threading.Event()

class Stuck:
    def __getstate__(self):  # called while the file is being written
        begun.set()
        if when == "writing":
            print("kill", flush=True)
        threading.Event().wait()

def save(self, progress, parts, original=StateFile.save):
    saves.append(progress)
    original(self, progress, {**parts, "stuck": Stuck()} if len(saves) == number else parts)

def step(self, arguments):
    if when == "training" and len(saves) == number:
        begun.wait()
        print("kill", flush=True)
    return train(self, arguments)

StateFile.save, StageRun._train = save, step
run()
"""


@pytest.mark.parametrize(
    ("number", "when", "trained"),
    [
        (3, "training", {1: 2, 2: None}),
        pytest.param(1, "training", {1: None}, marks=pytest.mark.slow),
        pytest.param(2, "writing", {1: 1}, marks=pytest.mark.slow),
        pytest.param(4, "writing", {1: 2, 2: 1}, marks=pytest.mark.slow),
    ],
)
def test_killed_while_the_state_is_written(whole, small_arguments, small_config, tmp_path, number, when, trained):
    """In the first or last epoch of a stage, while it goes on training or waits for the write."""
    keys = {**EVERYTHING, "SOLVER.SAVE_PERIOD": 0, "SOLVER.STAGE2.CHECKPOINT_PERIOD": 2, "SOLVER.STAGE2.EVAL_PERIOD": 2}
    words = [*small_arguments, *(f"{key}={value}" for key, value in keys.items()), f"OUTPUT_DIR={tmp_path}"]
    command = [sys.executable, "-c", STUCK, str(number), when, "train", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert "kill" in process.stdout.readline()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    for stage, epoch in trained.items():
        progress = read_progress(RunFolder(tmp_path, "tiny").state(stage))
        assert epoch == (progress and progress.epoch)
    assert list((tmp_path / "state").glob(".stage*.pt.*")), "the file that was being written"
    train(small_config({**keys, "OUTPUT_DIR": str(tmp_path)}))
    same(weights(tmp_path), whole)
    assert not list((tmp_path / "state").glob(".stage*.pt.*"))


def test_checkpoints_wait_for_the_state(small_config, tmp_path, monkeypatch):
    import svllreid.jobs.checkpoints as module

    early, events, save, checkpoint = threading.Event(), [], StateFile.save, module.save_checkpoint

    def slow(self, progress, parts):
        events.append(("early" if early.wait(0.3) else "state", progress.epoch))
        save(self, progress, parts)

    def recorded(file, model, info, state):
        early.set()
        events.append((file.stem, info.epoch))
        checkpoint(file, model, info, state)
        early.clear()

    monkeypatch.setattr(StateFile, "save", slow)
    monkeypatch.setattr(module, "save_checkpoint", recorded)
    train(small_config({"SOLVER.STAGE2.CHECKPOINT_PERIOD": 1, "OUTPUT_DIR": str(tmp_path)}))
    assert events[:3] == [("state", 1), ("state", 2), ("tiny_stage1_2", 2)]
    numbered = [event for event in events[3:] if event[0] != "tiny_best"]
    assert numbered == [("state", 1), ("tiny_1", 1), ("state", 2), ("tiny_2", 2)]


@pytest.mark.parametrize("write", [1, 2, 3, 4])
def test_a_full_disk_is_told_as_ever(small_arguments, tmp_path, monkeypatch, capfd, write):
    """In the background, in the first or last epoch of a stage."""
    original, writes = torch.save, []

    def full(content, file):
        if "optimizer" in content:
            writes.append(file)
            if len(writes) == write:
                raise OSError(errno.ENOSPC, "No space left on device")
        original(content, file)

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(sys, "argv", ["svllreid", "train", *small_arguments, f"OUTPUT_DIR={tmp_path}"])
    with pytest.raises(SystemExit) as end:
        run()
    err = capfd.readouterr().err
    assert end.value.code == 2 and "Traceback" not in err
    stage, epochs = (1, write - 1) if write < 3 else (2, write - 3)
    state = tmp_path / "state" / f"stage{stage}.pt"
    assert f"{state} could not be written: no space left (an older file stays as it was)" in err
    assert "OUTPUT_DIR" in err
    progress = read_progress(state)
    assert (progress.epoch if progress else 0, progress.settled if progress else 0) == (epochs, epochs)
    assert not (tmp_path / f"tiny_{epochs + 1}.pth").exists() or stage == 1
    assert not list((tmp_path / "state").glob(".*")), "no part of a file stays"


@pytest.mark.slow
def test_killed_at_random_moments(whole, market, small_arguments, tmp_path):
    """SIGKILL at 20 random moments of the run's life, from its first file to its last."""
    words = [*small_arguments, *(f"{key}={value}" for key, value in EVERYTHING.items()), f"OUTPUT_DIR={tmp_path}"]
    command = [sys.executable, "-m", "svllreid", "train", *words]
    generator, kills = random.Random(0), 0
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole_run = time.monotonic() - start  # of this machine; moments are drawn within it, after the imports
    for file in tmp_path.rglob("*"):
        if file.is_file():
            file.unlink()
    deadline = time.monotonic() + 560
    while kills < 20:
        assert time.monotonic() < deadline
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(generator.uniform(0.4, 1.0) * whole_run)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        same(weights(tmp_path), whole)
        for file in tmp_path.rglob("*"):  # and again from the start
            if file.is_file():
                file.unlink()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    same(weights(tmp_path), whole)
    assert not [file for file in tmp_path.rglob(".*") if file.is_file() and "events" not in file.name]


def test_a_loss_that_is_not_finite_names_step_term_and_images(small_config, tmp_path, monkeypatch, market):
    import svllreid.training.stage2 as stage2

    original, calls = stage2.triplet_loss, []

    def breaking(*arguments):
        calls.append(1)
        return original(*arguments) * (float("nan") if len(calls) == 7 else 1)  # three features a step

    monkeypatch.setattr(stage2, "triplet_loss", breaking)
    config = small_config({"OUTPUT_DIR": str(tmp_path), "SOLVER.STAGE2.LOG_PERIOD": 50, "SOLVER.STAGE2.MAX_EPOCHS": 1})
    with pytest.raises(TrainingError, match=r"epoch 1, step 3: loss nan, loss_triplet nan\. .*8 images") as error:
        train(config)
    named = [line.strip() for line in str(error.value).splitlines()[1:]]
    assert len(named) == 8 and all(str(market) in line for line in named)
    assert len({line.rpartition("/")[2][:4] for line in named}) == 4, "four people, two images each"
    assert not (tmp_path / "tiny_1.pth").exists()


def test_scalars_go_to_a_table_too(small_config, tmp_path):
    train(small_config({"OUTPUT_DIR": str(tmp_path)}))
    with (tmp_path / "scalars.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {row["name"] for row in rows}
    assert {"stage1/loss_ssl", "stage1/grad_norm", "stage2/loss_id", "stage2/grad_norm", "eval/mAP"} <= names
    assert -1 <= float(next(row["value"] for row in rows if row["name"] == "eval/prompt_similarity")) <= 1
    assert all(float(row["value"]) > 0 for row in rows if row["name"].endswith("grad_norm"))


def test_image_features_are_computed_once_for_the_same_files(small_config, tmp_path, monkeypatch, caplog):
    import svllreid.jobs.image_features as module

    original, computed = module.embed_samples, []
    monkeypatch.setattr(module, "embed_samples", lambda *a, **b: computed.append(1) or original(*a, **b))
    settings = {"OUTPUT_DIR": str(tmp_path), "SOLVER.STAGE2.MAX_EPOCHS": 1, "MODEL.PRETRAINED": "random"}
    config = small_config(settings)
    train(config, Options(stage=1))
    for changed, expected in ((config, 1), (small_config({**settings, "SOLVER.SEED": 9}), 2)):
        (tmp_path / "tiny_stage1_2.pth").unlink()
        (tmp_path / "state" / "stage1.pt").unlink()
        train(changed, Options(stage=1, allow_config_change=True))
        assert len(computed) == expected, "other random weights, other features"


def test_a_trial_is_short(small_config, tmp_path):
    config = small_config({"OUTPUT_DIR": str(tmp_path), "SOLVER.STAGE2.IMS_PER_BATCH": 4})
    metrics = train(config, Options(max_steps=2, limit_identities=3, profile=True))
    assert metrics is not None and any("trial on 3 training identities" in note for note in metrics["notes"])
    assert (tmp_path / "tiny_1.pth").is_file()
    assert torch.load(tmp_path / "state" / "stage2.pt", weights_only=True)["optimizer"]["state"][0]["step"] == 2


def test_a_profile_is_left(small_config, tmp_path):
    train(small_config({"OUTPUT_DIR": str(tmp_path), "SOLVER.STAGE1.IMS_PER_BATCH": 2}), Options(stage=1, profile=True))
    assert '"traceEvents"' in (tmp_path / "trace_stage1.json").read_text()


def test_the_last_checkpoints_are_kept(tmp_path):
    for name in ("tiny_5", "tiny_10", "tiny_20", "tiny_best", "tiny_stage1_9"):
        for kind in ("pth", "json"):
            (tmp_path / f"{name}.{kind}").touch()
    RunFolder(tmp_path, "tiny").keep_last(0, epoch=20)
    assert len(list(tmp_path.iterdir())) == 10
    RunFolder(tmp_path, "tiny").keep_last(2, epoch=20)
    assert {file.stem for file in tmp_path.iterdir()} == {"tiny_10", "tiny_20", "tiny_best", "tiny_stage1_9"}


def test_starting_over_removes_what_a_run_writes_and_nothing_else(tmp_path):
    own = ["tiny_5", "tiny_best", "tiny_stage1_9"]
    others = ["tiny_backup", "tiny_2nd", "tiny_5_good", "tiny_stage1_good", "tiny_05", "small_5"]
    for name in own + others:
        for kind in ("pth", "json"):
            (tmp_path / f"{name}.{kind}").touch()
    RunFolder(tmp_path, "tiny").clear((1, 2), logs=True, keep=None)
    assert {file.stem for file in tmp_path.iterdir()} == set(others) and len(list(tmp_path.iterdir())) == 12


def test_too_small_a_disk_is_noticed_at_once(small_config, tmp_path, monkeypatch):
    import svllreid.jobs.run_folder as module

    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 10**7}))
    with pytest.raises(OutputError, match=r"needs about 0\.2 GB .*0\.0 GB free"):
        train(small_config({"OUTPUT_DIR": str(tmp_path / "run")}))
    assert not (tmp_path / "run").exists()


def test_space_is_needed_for_every_checkpoint_that_is_kept_and_not_there_yet(small_config, tmp_path, monkeypatch):
    import svllreid.jobs.run_folder as module

    common = {"SOLVER.STAGE2.MAX_EPOCHS": 50, "SOLVER.STAGE2.CHECKPOINT_PERIOD": 1}
    model, folder = build_model(small_config(), num_classes=4), RunFolder(tmp_path, "tiny")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 4 * 10**8}))
    folder.check_space(model, small_config({**common, "SOLVER.KEEP_LAST": 2}))
    with pytest.raises(OutputError, match=r"needs about 1\.\d GB"):
        folder.check_space(model, small_config(common))
    for epoch in range(1, 46):
        with folder.checkpoint(2, epoch).open("wb") as file:
            file.truncate(RunFiles.of(model, small_config()).checkpoint)
    folder.check_space(model, small_config(common))


def test_what_stage_2_cannot_do_is_refused_before_stage_1(small_config, tmp_path):
    with pytest.raises(ConfigError, match="FROZEN_BLOCKS 7: the encoder has 6 blocks; set at most that"):
        train(small_config({"MODEL.FROZEN_BLOCKS": 7, "OUTPUT_DIR": str(tmp_path / "run")}))
    assert not (tmp_path / "run").exists()


def test_a_removed_last_checkpoint_is_written_again_as_it_was(whole, small_config, tmp_path):
    """With the weight average, not the weights behind it."""
    config = small_config({**EVERYTHING, "OUTPUT_DIR": str(tmp_path)})
    train(config)
    (tmp_path / "tiny_2.pth").unlink()
    train(config)
    same(weights(tmp_path), whole)


def test_a_changed_weight_decay_counts_when_continued(small_config, tmp_path):
    settings = {"OUTPUT_DIR": str(tmp_path), "SOLVER.STAGE2.MAX_EPOCHS": 1}
    train(small_config(settings))
    changed = {**settings, "SOLVER.STAGE2.MAX_EPOCHS": 2, "SOLVER.STAGE2.WEIGHT_DECAY": 0.5}
    train(small_config(changed), Options(allow_config_change=True))
    state = torch.load(tmp_path / "state" / "stage2.pt", weights_only=True)
    assert {group["weight_decay"] for group in state["optimizer"]["param_groups"]} == {0.5, 1e-4}


def test_a_finished_stage_of_other_people_is_refused(small_config, tmp_path):
    from svllreid.errors import CheckpointError

    config = small_config({"OUTPUT_DIR": str(tmp_path), "SOLVER.STAGE2.IMS_PER_BATCH": 4})
    train(config, Options(limit_identities=3))
    with pytest.raises(CheckpointError, match=r"trained on other identities .*OUTPUT_DIR"):
        train(config)


def test_a_gradient_that_is_not_finite_is_not_saved(small_config, tmp_path, monkeypatch):
    original = StageRun._train

    def breaking(self, arguments):
        result = original(self, arguments)
        if self.plan.stage == "stage 2" and self.progress.step == 1:
            self.parameters[0].grad.fill_(float("inf"))
        return result

    monkeypatch.setattr(StageRun, "_train", breaking)
    config = small_config({"OUTPUT_DIR": str(tmp_path), "SOLVER.SAVE_PERIOD": 2})
    with pytest.raises(TrainingError, match=r"epoch 1, step 2: the gradient is not finite"):
        train(config)
    assert not (tmp_path / "state" / "stage2.pt").exists()

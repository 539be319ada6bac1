"""The state to continue from, and files that are none."""

import json
from dataclasses import replace

import pytest
import torch

from svllreid.errors import CheckpointError
from svllreid.training.state import StateFile, TrainingProgress, read_progress, snapshot
from svllreid.types import SideRows


def test_what_is_saved_is_loaded(tmp_path):
    file = StateFile(tmp_path / "stage2.pt", ["a", 1])
    assert file.load() is None
    progress = TrainingProgress(epoch=2, step=3, total=9)
    file.save(progress, {"model": {"w": torch.ones(2)}})
    file.settle(progress)
    found, parts = file.load()
    assert (found.epoch, found.step, found.total, found.settled) == (2, 3, 9, 2)
    assert torch.equal(parts["model"]["w"], torch.ones(2))


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "object", "other content", "broken json"])
def test_a_damaged_state_names_the_way_on_and_never_torchs_advice(damage, tmp_path):
    file = StateFile(tmp_path / "stage2.pt", [1])
    file.save(TrainingProgress(), {"model": {"w": torch.ones(2)}})
    whole = file.path.read_bytes()
    if damage == "object":
        torch.save(torch.nn.Linear(2, 2), file.path)
    elif damage == "other content":
        torch.save({"epoch": 1}, file.path)
    elif damage == "broken json":
        file.settled_path.write_text(json.dumps({"settled": 0, "what": 1}))
    else:
        file.path.write_bytes({"cut": whole[:-20], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(CheckpointError, match=r"stage2\.pt cannot be read: it .*; remove it .*start over") as error:
        file.load()
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ({"step": None}, {}),
        ({"epoch": -1}, {}),
        ({"total": 1.5}, {}),
        ({"pids": 7}, {}),
        ({}, {"best": 3}),
        ({}, {"best_epoch": "a"}),
    ],
)
def test_progress_that_is_none_is_refused(content, note, tmp_path):
    file = StateFile(tmp_path / "stage2.pt", [1])
    torch.save({"epoch": 1, "step": 0, "total": 4, "pids": [1], "prompts": "", **content}, file.path)
    file.settled_path.write_text(json.dumps(note))
    with pytest.raises(CheckpointError, match=r"stage2\.pt cannot be read"):
        file.load()


def test_progress_is_read_alone(tmp_path):
    path = tmp_path / "stage2.pt"
    assert read_progress(path) is None
    progress = TrainingProgress(epoch=2, step=3, total=9, best_epoch=1, best={"mAP": 0.5})
    file = StateFile(path, [1])
    file.save(progress, {"model": {"w": torch.ones(2)}})
    assert read_progress(path) == TrainingProgress(epoch=2, step=3, total=9)
    file.settle(progress)
    assert read_progress(path) == replace(progress, settled=2)


def test_a_snapshot_stays_when_training_goes_on():
    weight = torch.nn.Parameter(torch.ones(2))
    image = torch.arange(12.0).reshape(3, 4).t()  # another order of the dimensions in memory
    tree = {"model": {"w": weight}, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"lr": 0.1}]}}
    copy = snapshot({**tree, "image": image})
    with torch.no_grad():
        weight += 1
        tree["optimizer"]["state"][0]["step"] += 1
        image.zero_()
    tree["optimizer"]["groups"][0]["lr"] = 0.2
    assert copy["model"]["w"].tolist() == [1, 1] and not copy["model"]["w"].requires_grad
    assert copy["optimizer"] == {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"lr": 0.1}]}
    assert torch.equal(copy["image"], torch.arange(12.0).reshape(3, 4).t())


def test_a_note_of_more_epochs_than_are_trained_is_of_an_earlier_run(tmp_path):
    file = StateFile(tmp_path / "stage2.pt", [1])
    file.settle(TrainingProgress(epoch=5, best_epoch=4, best={"mAP": 0.5}))
    file.save(TrainingProgress(epoch=1), {})
    assert read_progress(file.path) == TrainingProgress(epoch=1)


def side_rows(cameras, views=(0,)):
    return SideRows(tuple(cameras), tuple(views))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pids": [1, 3]}, "other identities"),
        ({"pids": [2, 1]}, "other identities"),
        ({"prompts": "b"}, "other prompts"),
        ({"side_rows": side_rows([0, 1, 2])}, "other cameras or viewpoints"),
        ({"side_rows": side_rows([0, 1], [0, 1])}, "other cameras or viewpoints"),
    ],
)
def test_a_state_of_other_data_is_refused(changed, words, tmp_path):
    own = {"pids": [1, 2], "prompts": "a", "side_rows": side_rows([0, 1])}
    StateFile(tmp_path / "stage2.pt", **own).save(TrainingProgress(epoch=1), {})
    assert StateFile(tmp_path / "stage2.pt", **own).load()[0].epoch == 1
    with pytest.raises(CheckpointError, match=words):
        StateFile(tmp_path / "stage2.pt", **{**own, **changed}).load()


def test_a_state_of_a_version_that_kept_no_prompts_and_cameras_is_taken(tmp_path):
    torch.save({"epoch": 1, "step": 0, "total": 4, "pids": [1]}, tmp_path / "stage2.pt")
    file = StateFile(tmp_path / "stage2.pt", [1], "a", side_rows([0, 1]))
    assert file.load()[0].total == 4

"""The state to continue from, and files that are none."""

import json

import pytest
import torch

from svllreid.errors import CheckpointError
from svllreid.training.state import StateFile, TrainingProgress


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

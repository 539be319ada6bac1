"""What `svllreid bench --whole` predicts."""

import pytest

from svllreid import build_model
from svllreid.errors import ConfigError
from svllreid.jobs import predicted_files
from svllreid.jobs import prediction as module
from svllreid.jobs.benching import Measured
from svllreid.jobs.predicted_files import RunFiles
from svllreid.jobs.prediction import predict


@pytest.fixture
def measured(monkeypatch):
    """A machine on which a stage-1 image takes 1 ms, a test image 2 ms, a stage-2 image 4 ms, and loading 8 ms."""
    seconds = {"stage 1": 1e-3, "test": 2e-3, "stage 2": 4e-3}
    monkeypatch.setattr(
        module, "measure_step", lambda work, step, size, *_: Measured(work, size, 1 / seconds[work], 5 * 10**9, 40.0)
    )
    monkeypatch.setattr(module._Predictor, "_seconds_an_image", lambda *_: 8e-3)
    monkeypatch.setattr(module._Predictor, "_ranking", lambda self: (30.0, 90.0))
    monkeypatch.setattr(module, "written_per_second", lambda folder: 1e6)
    monkeypatch.setattr(module, "copied_per_second", lambda device: 4e6)


SETTINGS = {
    "SOLVER.STAGE1.IMS_PER_BATCH": 64,
    "SOLVER.STAGE1.MAX_EPOCHS": 10,
    "SOLVER.STAGE2.IMS_PER_BATCH": 64,
    "SOLVER.STAGE2.MAX_EPOCHS": 20,
    "SOLVER.STAGE2.EVAL_PERIOD": 8,
    "DATALOADER.NUM_INSTANCE": 4,
}


def test_parts_add_up_on_a_cpu(small_config, measured):
    found = predict(small_config(SETTINGS), "market1501", "cpu")
    parts = {part.name: part for part in found.parts}
    assert parts["stage 1: image features"].seconds == pytest.approx(12_936 * 10e-3)
    assert parts["stage 1"].amount == "10 epochs of 203 steps"
    assert parts["stage 1"].seconds == pytest.approx(10 * 203 * 64 * 1e-3)
    epochs, steps = (int(word) for word in parts["stage 2"].amount.split() if word.isdigit())
    assert epochs == 20 and 180 <= steps <= 202
    assert parts["stage 2"].seconds == pytest.approx(epochs * steps * 64 * 12e-3)
    assert parts["stage 2"].bound == "loading images"
    assert parts["evaluations"].seconds == pytest.approx(3 * (3_368 + 15_913) * 10e-3)
    assert parts["ranking"].seconds == 30 + 30 + 90
    assert found.seconds == pytest.approx(sum(part.seconds for part in found.parts))
    files = RunFiles.of(build_model(small_config(SETTINGS), num_classes=751, num_cameras=6), small_config(SETTINGS))
    assert found.memory == 5 * 10**9 + files.largest_state and found.disk > 10**7
    waited = files.waited({"stage 1": 203 * 64 * 1e-3, "stage 2": steps * 64 * 12e-3}, 4e6, 1e6)
    assert parts["waiting for states and checkpoints"].seconds == pytest.approx(waited)


def test_a_gpu_works_while_images_are_loaded(small_config, measured):
    with_gpu = object.__new__(module._Predictor)
    with_gpu.on_gpu = True
    assert with_gpu._together(4e-3, 8e-3) == (8e-3, "loading images")
    assert with_gpu._together(4e-3, 1e-3) == (4e-3, "the network")


def test_without_text_there_is_no_stage_1(small_config, measured):
    parts = predict(small_config({**SETTINGS, "MODEL.USE_TEXT": False}), "market1501", "cpu").parts
    assert not [part.name for part in parts if "stage 1" in part.name]


def test_the_machine_is_measured(small_config, monkeypatch):
    monkeypatch.setattr(predicted_files, "WRITTEN_BYTES", 4 << 20)
    monkeypatch.setattr(module, "CPU_SHARE", 2000)
    found = predict(small_config(), "market1501", "cpu")
    assert all(part.seconds > 0 for part in found.parts)


@pytest.mark.parametrize("dataset", ["vehicleid", "folder", "nothing"])
def test_a_dataset_without_known_counts_is_refused(small_config, dataset):
    with pytest.raises(ConfigError, match=f"--whole {dataset}: .* choose one of .*msmt17"):
        predict(small_config(), dataset, "cpu")

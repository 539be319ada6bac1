"""Pretraining: the same weights whatever interrupts it, files that the model loads, refusals."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch.nn import functional as F

from svllreid import build_model, load_config
from svllreid.errors import CheckpointError, ConfigError, DatasetError, DeviceError
from svllreid.rendered import recipe
from svllreid.rendered.pretraining import CARD, WEIGHTS, PretrainRun, pretrain
from svllreid.rendered.recipe import Recipe
from svllreid.rendered.scoring import embed_images

RECIPE = Recipe(seed=3, sites=2, people=20, images=2, size=(32, 16), epochs=2, batch_size=8)
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def few_to_test_on(monkeypatch):
    monkeypatch.setattr(recipe, "TEST_SITES", 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "TEST_SITES", 2)
        scores = pretrain(RECIPE, folder, device="cpu", console=QUIET)
    return folder, scores


@pytest.fixture
def rendered(finished, tmp_path):
    """A folder that holds the images alone."""
    shutil.copytree(finished[0] / "crowd", tmp_path / "crowd")
    return tmp_path


def test_files_and_scores(finished):
    folder, scores = finished
    card = json.loads((folder / CARD).read_text())
    assert card["scores"] == scores and card["recipe"]["seed"] == 3 and card["quick_gelu"] is True
    assert {"retrieval_full", "retrieval_wordings", "reid_mAP", "probes"} <= set(scores)
    assert 0 < scores["reid_mAP"] < 1
    assert scores["probes"]["sex"]["chance"] == 0.5 and scores["probes"]["sex"]["images"] == 100
    assert "pretraining epoch 2: loss" in (folder / "log.txt").read_text()
    state = load_file(folder / WEIGHTS)
    assert all(value.dtype == torch.float16 for value in state.values())
    assert (folder / WEIGHTS).stat().st_size < 20e6


def test_the_model_starts_from_what_was_trained(finished, tmp_path):
    folder, _ = finished
    sizes = {"INPUT.SIZE_TRAIN": [32, 16], "INPUT.SIZE_TEST": [32, 16], "MODEL.STRIDE_SIZE": [16, 16]}
    config = load_config(overrides={"MODEL.NAME": "tiny", "MODEL.PRETRAINED": str(folder / WEIGHTS), **sizes})
    model = build_model(config, num_classes=3).eval()
    run = PretrainRun(RECIPE, folder, "cpu", 1)
    run.model.load_state_dict(torch.load(folder / "state" / "pretrain.pt", weights_only=True)["model"])
    images = torch.randint(0, 256, (4, 32, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        proj, _ = embed_images(run.model, images)
        found = model.image_encoder((images.movedim(3, 1).float() / 255 - 0.5) / 0.5).proj
    # Half precision, and the projection is scaled.
    torch.testing.assert_close(F.normalize(found), F.normalize(proj), rtol=0, atol=2e-3)
    lengths = found.norm(dim=1) / proj.norm(dim=1)
    assert lengths.max() < 1.01 * lengths.min() < 0.9


def test_an_interrupted_run_ends_with_the_same_weights(finished, rendered, monkeypatch):
    folder, scores = finished
    measure = PretrainRun.after_epoch

    def stop(self, epoch, progress):
        if epoch == 1:
            raise KeyboardInterrupt
        measure(self, epoch, progress)

    monkeypatch.setattr(PretrainRun, "after_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain(RECIPE, rendered, device="cpu", console=QUIET)
    assert not (rendered / WEIGHTS).exists()
    monkeypatch.setattr(PretrainRun, "after_epoch", measure)
    assert pretrain(RECIPE, rendered, device="cpu", console=QUIET) == scores
    assert (rendered / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_a_run_stopped_inside_an_epoch_ends_with_the_same_weights(finished, rendered, monkeypatch):
    folder, scores = finished
    steps = PretrainRun.batches

    def stop(self, epoch, done):
        count, arguments = steps(self, epoch, done)
        return count, stopping(arguments, 3 if epoch == 2 else count)

    def stopping(arguments, last):
        for step, argument in enumerate(arguments):
            if step == last:
                os.kill(os.getpid(), signal.SIGTERM)
            yield argument

    monkeypatch.setattr(PretrainRun, "batches", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain(RECIPE, rendered, device="cpu", console=QUIET)
    state = torch.load(rendered / "state" / "pretrain.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 4)
    monkeypatch.setattr(PretrainRun, "batches", steps)
    assert pretrain(RECIPE, rendered, device="cpu", console=QUIET) == scores
    assert (rendered / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    (rendered / WEIGHTS).unlink()  # as if killed between its two files
    assert pretrain(RECIPE, rendered, device="cpu", console=QUIET) == scores
    assert (rendered / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_fresh_starts_over_and_leaves_no_old_curve(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    other = Recipe(**{**RECIPE.__dict__, "epochs": 1})
    pretrain(other, tmp_path, device="cpu", fresh=True, console=QUIET)
    assert "epoch 2" not in (tmp_path / "log.txt").read_text()
    assert len(list(tmp_path.glob("events.*"))) == 1
    assert (tmp_path / WEIGHTS).read_bytes() != (finished[0] / WEIGHTS).read_bytes()


def test_nothing_is_lost_where_the_device_is_not_there(finished):
    folder, scores = finished
    with pytest.raises(DeviceError, match="--device cuda:99"):
        pretrain(RECIPE, folder, device="cuda:99", fresh=True, console=QUIET)
    assert pretrain(RECIPE, folder, device="cpu", console=QUIET) == scores


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_damaged_notes_are_named(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"recipe\.json cannot be read.*--fresh"):
        pretrain(RECIPE, tmp_path, device="cpu", console=QUIET)


def test_a_card_without_scores_is_named(finished, tmp_path):
    for name in ("recipe.json", WEIGHTS):
        shutil.copy(finished[0] / name, tmp_path)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(CheckpointError, match=r"tiny_clip\.json has no scores; remove it.*--fresh"):
        pretrain(RECIPE, tmp_path, device="cpu", console=QUIET)


def test_a_finished_run_says_so_and_another_recipe_is_refused(finished, capsys):
    folder, scores = finished
    before = (folder / WEIGHTS).stat().st_mtime_ns
    assert pretrain(RECIPE, folder, device="cpu", console=QUIET) == scores
    assert (folder / WEIGHTS).stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"lr: 0\.0006 before, 0\.1 now.*--fresh"):
        pretrain(Recipe(**{**RECIPE.__dict__, "lr": 0.1}), folder, device="cpu", console=QUIET)
    with pytest.raises(ConfigError, match="batch of 64 is larger than the crowd of 40"):
        pretrain(Recipe(**{**RECIPE.__dict__, "batch_size": 64}), folder, device="cpu", console=QUIET)


def test_the_people_of_the_test_are_not_trained_on(tmp_path):
    with pytest.raises(ConfigError, match="seed 1000: the people of 1000 are tested on"):
        pretrain(Recipe(seed=1000), tmp_path, device="cpu", console=QUIET)
    assert not list(tmp_path.iterdir())


def test_damaged_images_are_named(tmp_path):
    place = tmp_path / "crowd" / "drawn1_3_20x2_32x16"
    place.mkdir(parents=True)
    (place / "site_0000.npy").write_bytes(b"not an array")
    with pytest.raises(DatasetError, match=r"site_0000\.npy cannot be read.*remove it"):
        pretrain(RECIPE, tmp_path, device="cpu", console=QUIET)
    np.save(place / "site_0000.npy", np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"site_0000\.npy holds uint8 \(1, 2, 3\)"):
        pretrain(RECIPE, tmp_path, device="cpu", console=QUIET)


def test_every_person_is_shown_once_an_epoch(finished, tmp_path):
    run = PretrainRun(RECIPE, tmp_path, "cpu", 1)
    first, second = run.order(1), run.order(2)
    assert first.shape == (5, 8) and sorted(first.ravel()) == list(range(40))
    assert (first != second).any()

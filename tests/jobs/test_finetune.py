"""Training on from a finished run, with other people."""

import json

import pytest
import torch
from PIL import Image

from svllreid.build import TrainingData, build_model_for, build_splits
from svllreid.errors import CheckpointError
from svllreid.jobs.preparing import Options
from svllreid.jobs.testing import run_test
from svllreid.jobs.training import train
from svllreid.models.clip import load_clip

NEW = {"classifier.weight", "classifier_proj.weight", "prompt_learner.cls_ctx"}


@pytest.fixture(scope="module")
def others(market, tmp_path_factory):
    """Market-1501's layout with six people of other numbers to train."""
    root = tmp_path_factory.mktemp("others")
    for image in sorted(market.rglob("*.jpg")):
        pid, rest = image.name.split("_", 1)
        folder = root / image.parent.relative_to(market)
        folder.mkdir(parents=True, exist_ok=True)
        copies = (100, 104) if folder.name == "bounding_box_train" and int(pid) <= 2 else (100,)
        for offset in copies:
            number = int(pid) + offset
            turned = Image.open(image).rotate(0 if offset == 100 else 180)
            turned.save(folder / f"{number if folder.name == 'bounding_box_train' else number + 100:04d}_{rest}")
    return root


@pytest.fixture(scope="module")
def finished(small_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    train(small_config({"OUTPUT_DIR": str(folder)}))
    return folder / "tiny_2.pth"


def test_other_people_keep_everything_but_classifiers_and_prompts(
    finished, others, small_config, tmp_path, monkeypatch
):
    monkeypatch.setattr("open_clip.download_pretrained", lambda *a, **k: pytest.fail("fetched"))
    keys = {"DATASETS.ROOT_DIR": str(others), "MODEL.PRETRAINED": str(finished), "OUTPUT_DIR": str(tmp_path)}
    config = small_config(keys)
    data = TrainingData.of(build_splits(config).train)
    assert list(data.labels) == [101, 102, 103, 104, 105, 106]
    before = torch.load(finished, weights_only=True)
    start = build_model_for(config, data).state_dict()
    assert {name for name in start if not torch.equal(start[name], before[name])} == NEW
    assert {name: (len(before[name]), len(start[name])) for name in NEW} == dict.fromkeys(NEW, (4, 6))

    assert train(config, Options(stage=1)) is None
    prompts = torch.load(tmp_path / "tiny_stage1_2.pth", weights_only=True)
    changed = {name for name in prompts if not torch.equal(prompts[name], before[name])}
    assert {name for name in changed if not name.startswith("text_mlp.bn")} == NEW  # whose statistics stage 1 moves
    metrics = train(config)
    after = torch.load(tmp_path / "tiny_2.pth", weights_only=True)
    moved = {name for name in after if not torch.equal(after[name], prompts[name])}
    assert {"image_encoder.conv1.weight", "classifier.weight", "image_mlp.layer1.weight"} <= moved
    info = json.loads((tmp_path / "tiny_2.json").read_text())
    assert (info["num_classes"], info["pids"][0], info["quick_gelu"]) == (6, 101, True)

    finished_elsewhere = small_config(
        {**keys, "TEST.WEIGHT": str(tmp_path / "tiny_2.pth"), "OUTPUT_DIR": str(tmp_path / "t")}
    )
    assert run_test(finished_elsewhere)["mAP"] == metrics["mAP"]


def test_a_larger_image_and_the_baseline(finished, others, small_config, tmp_path):
    keys = {"DATASETS.ROOT_DIR": str(others), "MODEL.PRETRAINED": str(finished), "MODEL.USE_TEXT": False}
    larger = {"INPUT.SIZE_TRAIN": [64, 32], "INPUT.SIZE_TEST": [64, 32], "OUTPUT_DIR": str(tmp_path)}
    assert train(small_config({**keys, **larger})) is not None
    state = torch.load(tmp_path / "tiny_2.pth", weights_only=True)
    assert len(state["image_encoder.positional_embedding"]) == 1 + 4 * 2
    again = {
        **keys,
        "MODEL.PRETRAINED": str(tmp_path / "tiny_2.pth"),
        "MODEL.USE_TEXT": True,
        "OUTPUT_DIR": str(tmp_path / "x"),
    }
    with pytest.raises(CheckpointError, match="switch the text stage off"):
        train(small_config({**again, **{key: larger[key] for key in ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST")}}))
    assert not (tmp_path / "x").exists()


def test_stage_2_alone_keeps_the_activation_of_stage_1(small_config, tmp_path):
    clip = tmp_path / "clip.pt"
    torch.save(load_clip("tiny", "random").text.state_dict(), clip)
    beside = clip.with_suffix(".json")
    beside.write_text('{"quick_gelu": false}')
    config = small_config({"MODEL.PRETRAINED": str(clip), "OUTPUT_DIR": str(tmp_path / "run")})
    train(config, Options(stage=1))
    beside.unlink()
    train(config, Options(stage=2))
    for file in ("tiny_stage1_2.json", "tiny_2.json"):
        assert json.loads((tmp_path / "run" / file).read_text())["quick_gelu"] is False

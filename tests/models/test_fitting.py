"""Training on from ReID checkpoints, published ones and ours, with other identities."""

import json
import logging
import shutil

import pytest
import torch
from torch.nn import functional as F

from svllreid import build_model
from svllreid.build import load_trained
from svllreid.config.hints import SETTINGS
from svllreid.errors import CheckpointError, ConfigError
from svllreid.models.fitting import _likely_settings
from svllreid.models.towers import resize_positions


def without(state, *parts):
    return {name: value for name, value in state.items() if not any(part in name for part in parts)}


FRESH = {"classifier.weight", "classifier_proj.weight", "prompt_learner.cls_ctx"}


@pytest.mark.parametrize("kind", ["vit", "rn50"])
def test_published_checkpoints_start_another_training(write_published, published_config, tmp_path, caplog, kind):
    path = tmp_path / "published.pth"
    before = write_published(kind, path)
    config = published_config(kind, f"MODEL.PRETRAINED={path}")
    with caplog.at_level(logging.INFO, logger="svllreid"):
        network = build_model(config, num_classes=4, num_cameras=6)
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert {name for name in after if not torch.equal(after[name], before[name])} == FRESH
    assert [len(after[name]) for name in sorted(FRESH)] == [4, 4, 4]
    [line] = [record.getMessage() for record in caplog.records if record.name == "svllreid.build.model"]
    assert line.startswith(f"{path}: taken bottleneck, bottleneck_proj, ") and "text_encoder" in line
    anew = "classifier, classifier_proj, prompt_learner.cls_ctx"
    assert line.endswith(f"; left out {anew}; made anew {anew}")
    same_number = build_model(config, num_classes=11, num_cameras=6).state_dict()
    assert {name for name in after if not torch.equal(same_number[name], before[name])} == FRESH


@pytest.mark.parametrize("kind", ["vit", "rn50"])
def test_an_image_only_checkpoint_starts_the_baseline_alone(write_published, published_config, tmp_path, kind):
    path = tmp_path / "baseline.pth"
    before = write_published(kind, path)
    whole = build_model(
        published_config(kind, f"MODEL.PRETRAINED={path}", "MODEL.USE_TEXT=false"), num_classes=4, num_cameras=6
    )
    image_only = without(before, "prompt_learner.", "text_encoder.", "text_mlp.", "image_mlp.")
    torch.save(image_only, path)
    config = published_config(kind, f"MODEL.PRETRAINED={path}", "MODEL.USE_SSL=false")
    with pytest.raises(CheckpointError, match=r"baseline\.pth is an image encoder .*switch the text stage off"):
        build_model(config, num_classes=4, num_cameras=6)
    config = published_config(kind, f"MODEL.PRETRAINED={path}", "MODEL.USE_TEXT=false", "MODEL.USE_SSL=false")
    network = build_model(config, num_classes=4, num_cameras=6)
    for model in (network, whole):
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert {name for name in changed if not name.startswith("image_mlp.")} == FRESH - {"prompt_learner.cls_ctx"}


def test_another_backbone_is_named(write_published, published_config, tmp_path):
    write_published("vit", tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"a ViT of width 128.*does not fit.*a ResNet with \[1, 1, 1, 1\]"):
        build_model(published_config("rn50", f"MODEL.PRETRAINED={tmp_path / 'vit.pth'}"), num_classes=4)


def sized(height, width, path):
    size = {"INPUT.SIZE_TRAIN": [height, width], "INPUT.SIZE_TEST": [height, width]}
    return {**size, "MODEL.STRIDE_SIZE": [8, 8], "MODEL.PRETRAINED": str(path)}


def test_positions_of_any_grid_are_resized_where_the_grid_is_known(trained, small_config):
    path, before = trained()
    larger = build_model(small_config(sized(64, 32, path)), num_classes=5, num_cameras=2).state_dict()
    name = "image_encoder.positional_embedding"
    patches = before[name][1:].reshape(1, 3, 1, -1).permute(0, 3, 1, 2)
    expected = F.interpolate(patches, (7, 3), mode="bilinear").permute(0, 2, 3, 1).reshape(21, -1)
    assert torch.equal(larger[name][0], before[name][0])
    torch.testing.assert_close(larger[name][1:], expected)
    lying = build_model(small_config(sized(16, 32, path)), num_classes=5, num_cameras=2).state_dict()
    assert not torch.equal(lying[name], before[name])  # 1 x 3 is another grid than 3 x 1, of as many patches
    torch.testing.assert_close(lying[name][1:], before[name][2].expand(3, -1))
    path.with_suffix(".json").unlink()
    assert torch.equal(build_model(small_config(sized(32, 16, path)), num_classes=5).state_dict()[name], before[name])
    with pytest.raises(CheckpointError, match=r"3 patches.*makes 7 x 3.*set the image size and the stride"):
        build_model(small_config(sized(64, 32, path)), num_classes=5, num_cameras=2)


def test_resize_from_a_rectangular_grid():
    positions = torch.tensor([[9.0], [0.0], [2.0], [4.0]])  # CLS, then a column of three
    torch.testing.assert_close(resize_positions(positions, (1, 2), (3, 1)), torch.tensor([[9.0], [2.0], [2.0]]))
    assert resize_positions(positions, (3, 1), (3, 1)) is positions
    with pytest.raises(CheckpointError, match="3 position embeddings, which are no square grid"):
        resize_positions(positions, (2, 2))


def test_heads_and_side_information_are_taken_where_both_have_them(trained, small_config):
    path, before = trained({"MODEL.SSL_HIDDEN_DIM": 512})
    base = {**sized(32, 16, path), "MODEL.SSL_HIDDEN_DIM": 512}
    parts = ("image_mlp.", "text_mlp.", "cv_embed")

    def taken(overrides, cameras=2):
        config = small_config({**base, **overrides})
        after = build_model(config, num_classes=3, num_cameras=cameras).state_dict()
        same = {name: torch.equal(value, before.get(name, torch.empty(0))) for name, value in after.items()}
        return {part: [equal for name, equal in same.items() if name.startswith(part)] for part in parts}

    assert all(all(found) and found for found in taken({}).values())
    siamese = small_config({**base, "MODEL.SSL_TYPE": "SIMSIAM"})  # whose bn1 has the shape of the other head's
    assert not torch.equal(build_model(siamese, num_classes=3).image_mlp.bn1.weight, before["image_mlp.bn1.weight"])
    assert all(taken({"MODEL.SSL_TYPE": "SIMSIAM"})["text_mlp."])
    _, before = trained({"MODEL.SSL_HIDDEN_DIM": 512, "SOLVER.SEED": 9, "MODEL.USE_SSL": False})
    assert taken({}, cameras=3)["cv_embed"] == [False] and taken({})["cv_embed"] == [True]
    assert taken({"MODEL.SIE_CAMERA": False})["cv_embed"] == []


def test_words_stay_those_of_the_checkpoint(trained, small_config):
    path, _ = trained()
    base = sized(32, 16, path)
    with pytest.raises(
        ConfigError, match=r"DATASETS\.NOUN vehicle: the prompts.*say person.*set DATASETS\.NOUN person"
    ):
        build_model(small_config({**base, "DATASETS.NOUN": "vehicle"}), num_classes=3, num_cameras=2)
    build_model(small_config({**base, "DATASETS.NOUN": "vehicle", "MODEL.USE_TEXT": False}), num_classes=3)
    path.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match="another length in tokens than the one set"):
        build_model(small_config({**base, "DATASETS.NOUN": "motor vehicle"}), num_classes=3, num_cameras=2)


def block_activation(model):
    return type(model.image_encoder.transformer.resblocks[0].mlp.gelu).__name__


def test_the_activation_follows_from_file_to_file(trained, hub_state, hub_folder, small_clip, small_config, tmp_path):
    """Known from config.json once, then from each checkpoint's own .json, whatever became of the first file."""
    hub = hub_folder(tmp_path / "hub", hub_state, hidden_act="gelu")
    first, _ = trained({"MODEL.PRETRAINED": str(hub)}, "first.pth")
    shutil.rmtree(hub)
    second, _ = trained({"MODEL.PRETRAINED": str(first)}, "second.pth")
    for path in (first, second):
        model, _, info = load_trained(path)
        assert block_activation(model) == "GELU" and info.quick_gelu is False
    info = json.loads(first.with_suffix(".json").read_text())
    older = {name: value for name, value in info.items() if name != "quick_gelu"}
    first.with_suffix(".json").write_text(json.dumps(older))
    assert block_activation(load_trained(first)[0]) == "QuickGELU"  # as files without that entry always did

    vit = {"MODEL.NAME": "ViT-B-16", "MODEL.PRETRAINED": "laion2b_s34b_b88k"}
    path, _ = trained(vit, "vit.pth", clip="random")
    info = json.loads(path.with_suffix(".json").read_text())
    config = small_config({**sized(32, 16, path), "MODEL.NAME": "ViT-B-16"})
    for beside in (info, {name: value for name, value in info.items() if name != "quick_gelu"}):
        path.with_suffix(".json").write_text(json.dumps(beside))
        assert block_activation(build_model(config, num_classes=2, num_cameras=2)) == "GELU"
    path.with_suffix(".json").unlink()  # a published one began with OpenAI's
    assert block_activation(build_model(config, num_classes=2, num_cameras=2)) == "QuickGELU"


@pytest.mark.parametrize(
    ("wrong", "other", "settings"),
    [
        (["image_encoder.positional_embedding"], [], ("image size", "stride")),
        ([], ["cv_embed"], ("side information",)),
        ([], ["image_mlp.layer1.weight"], ("self-supervision", "self-supervision widths")),
        (["classifier.weight"], [], ("dataset",)),
        ([], ["image_encoder.conv3.weight"], ("backbone",)),
    ],
)
def test_what_does_not_fit_tells_the_settings(wrong, other, settings):
    assert _likely_settings(wrong, other) == settings
    assert set(settings) <= SETTINGS.keys()

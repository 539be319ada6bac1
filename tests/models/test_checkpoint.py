"""Checkpoints in the published layout, and files that do not fit."""

import json

import pytest
import torch

from svllreid import Encoder, build_model
from svllreid.build import load_trained
from svllreid.errors import CheckpointError
from svllreid.models.checkpoint import CLASSIFIERS, CheckpointInfo, read_checkpoint, save_checkpoint
from svllreid.models.fitting import fit_checkpoint


@pytest.fixture
def published(small_config, tmp_path):
    """A file as published code writes it: a flat state dict, no json, written from two processes."""
    torch.manual_seed(3)
    model = build_model(small_config(), num_classes=7, num_cameras=2)
    model.bottleneck.running_mean += 1
    path = tmp_path / "tiny_60.pth"
    torch.save({f"module.{name}": value for name, value in model.state_dict().items()}, path)
    return model, path


def test_published_file_loads_with_a_configuration(published, small_config):
    model, path = published
    loaded, _, info = load_trained(path, small_config())
    images, cameras = torch.randn(2, 3, 32, 16), torch.tensor([0, 1])
    model.eval(), loaded.eval()
    assert info is None and loaded.num_cameras == 2
    for after in (False, True):
        expected = model.embed(images, cameras, after_neck=after)
        assert torch.equal(loaded.embed(images, cameras, after_neck=after), expected)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "model.", "model.net."])
@pytest.mark.parametrize("nest", ["state_dict", "model"])
def test_files_of_compiled_models_and_of_lightning_load(published, small_config, tmp_path, prefix, nest):
    model, path = published
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    torch.save({nest: state, "epoch": 60, "optimizer_states": [{"lr": 1.0}]}, tmp_path / "wrapped.ckpt")
    loaded, _ = read_checkpoint(tmp_path / "wrapped.ckpt")
    expected, _ = read_checkpoint(path)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.items())


def test_without_configuration_the_keys_are_asked_for(published):
    _, path = published
    with pytest.raises(CheckpointError, match=r"--config-file.*MODEL\.STRIDE_SIZE.*ViT of width 256 with 6 blocks"):
        Encoder.load(path)


def test_views_and_cameras_are_told_apart_by_veris_eight(small_config, tmp_path):
    both = small_config({"MODEL.SIE_VIEW": True})
    torch.save(build_model(both, num_classes=2, num_cameras=3, num_views=8).state_dict(), tmp_path / "a.pth")
    model, _, _ = load_trained(tmp_path / "a.pth", both)
    assert (model.num_cameras, model.num_views) == (3, 8)
    torch.save(build_model(both, num_classes=2, num_cameras=3, num_views=3).state_dict(), tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="9 rows of side information"):
        load_trained(tmp_path / "b.pth", both)


def test_another_datasets_classifiers_are_left_out(published, small_config):
    model, path = published
    other = build_model(small_config({"MODEL.USE_TEXT": False}), num_classes=4, num_cameras=2)
    before = other.classifier.weight.clone()
    state, _ = read_checkpoint(path)
    left_out = fit_checkpoint(
        other, state, "file", skip=(*CLASSIFIERS, "prompt_learner.", "text_encoder.", "text_mlp.")
    )
    assert {"classifier.weight", "classifier_proj.weight"} <= set(left_out)
    assert torch.equal(other.classifier.weight, before)
    assert torch.equal(other.bottleneck.running_mean, model.bottleneck.running_mean)


def test_wrong_shapes_are_listed_and_nothing_is_loaded(published, small_config):
    _, path = published
    bigger = small_config({"INPUT.SIZE_TRAIN": [64, 32], "INPUT.SIZE_TEST": [64, 32]})
    other = build_model(bigger, num_classes=7, num_cameras=2)
    before = other.image_encoder.conv1.weight.clone()
    state, _ = read_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"\(3, 256\) in the file, \(9, 256\)") as error:
        fit_checkpoint(other, state, "file")
    assert "; check the image size and the stride:\n  image_encoder.positional_embedding: " in str(error.value)
    assert error.value.settings == ("image size", "stride")
    assert torch.equal(other.image_encoder.conv1.weight, before)


def test_another_backbone_is_named(published, small_config):
    _, path = published
    with pytest.raises(CheckpointError, match=r"a ViT of width 256.*does not fit.*a ResNet with \[3, 4, 6, 3\]"):
        load_trained(path, small_config({"MODEL.NAME": "RN50", "MODEL.SIE_CAMERA": False, "MODEL.SIE_COE": 1.0}))


def test_side_information_is_left_out_or_missing(published, small_config, caplog):
    model_of_file, path = published
    with caplog.at_level("INFO", logger="svllreid"):
        model, _, _ = load_trained(path, small_config({"MODEL.SIE_CAMERA": False}))
    assert not hasattr(model, "cv_embed") and "its side information is left out" in caplog.text
    caplog.clear()
    save_checkpoint(path, model_of_file, CheckpointInfo(small_config().to_yaml_tree(), 7, 2, 1, [], 2, 1, ""))
    with caplog.at_level("INFO", logger="svllreid"):
        load_trained(path, small_config({"MODEL.SIE_CAMERA": False}))
    assert "side information" not in caplog.text  # the command that switched it off says so
    path.with_suffix(".json").unlink()
    bare = path.with_name("bare.pth")
    torch.save(
        {name: value for name, value in torch.load(path, weights_only=True).items() if "cv_embed" not in name}, bare
    )
    with pytest.raises(CheckpointError, match=r"has no side information; set MODEL\.SIE_CAMERA"):
        load_trained(bare, small_config({"MODEL.SIE_CAMERA": True}))


def test_what_is_no_checkpoint(tmp_path, small_config):
    (tmp_path / "a.pth").write_bytes(b"hello")
    torch.save({"visual.conv1.weight": torch.zeros(1)}, tmp_path / "clip.pth")
    torch.save({"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "net.pth")
    for name, words in (
        ("none.pth", "no weight file"),
        ("a.pth", "not a readable weight file"),
        ("clip.pth", "CLIP's own weights: give it as the pretrained weights"),
        ("net.pth", r"\(no image_encoder\.\* entries\) but something else: its entries are fc\.weight, fc\.bias$"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_trained(tmp_path / name, small_config())


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "bottleneck.running_mean",
            lambda value: value * float("nan"),
            r"holds NaN in 1 entries \(first bottleneck\.run",
        ),
        ("image_encoder.positional_embedding", torch.sum, r"positional_embedding has the shape \(\), not 2 dimensions"),
        ("image_encoder.class_embedding", torch.sum, r"class_embedding has the shape \(\), not 1 dimensions"),
        ("cv_embed", torch.flatten, r"cv_embed has the shape \(512,\), not 2 dimensions"),
        ("prompt_learner.token_suffix", torch.flatten, "token_suffix has the shape"),
        (
            "bottleneck.weight",
            torch.Tensor.to_sparse,
            r"bottleneck\.weight is sparse_coo float32 on cpu, and weights are",
        ),
        ("bottleneck.weight", lambda value: value.to(torch.complex64), r"bottleneck\.weight is strided complex64"),
    ],
)
def test_damaged_entries_are_named(published, small_config, name, change, words):
    _, path = published
    state, _ = read_checkpoint(path)
    torch.save({**state, name: change(state[name])}, path)
    with pytest.raises(CheckpointError, match=words):
        load_trained(path, small_config())


@pytest.mark.parametrize("number", [0, -1, "2", 1.5, True, None, 10**12])
def test_counts_that_are_none_are_refused(number, small_config):
    tree = small_config().to_yaml_tree()
    with pytest.raises(ValueError, match=r"num_cameras is .*, not a whole number from 1 to 10000000"):
        CheckpointInfo(tree, 7, number, 1, [], 2, 1, "")


def test_a_record_of_other_cameras_than_the_table_has(published, small_config):
    model, path = published
    save_checkpoint(path, model, CheckpointInfo(small_config().to_yaml_tree(), 7, 2_000_000, 1, [], 2, 1, ""))
    with pytest.raises(CheckpointError, match=r"information of 2 rows, and its \.json names 2000000 cameras and 1 v"):
        load_trained(path)


def test_broken_json_beside(published, small_config):
    _, path = published
    path.with_suffix(".json").write_text(json.dumps({"what": 1}))
    with pytest.raises(CheckpointError, match="restore or remove it"):
        load_trained(path, small_config())


@pytest.mark.parametrize(
    "change",
    [
        {"config": {}},
        {"config": []},
        {"config": {"MODEL": {"NAME": "tiny"}, "DATASETS": []}},
        {"pids": None},
        {"pids": 3},
        {"changes": {}},
        {"changes": [3]},
    ],
)
def test_a_json_beside_that_is_damaged_is_refused(published, small_config, change):
    model, path = published
    save_checkpoint(path, model, CheckpointInfo(small_config().to_yaml_tree(), 7, 2, 1, [], 2, 1, ""))
    content = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**content, **change}))
    with pytest.raises(CheckpointError, match=r"which belongs to .*cannot be read: .*restore or remove it"):
        load_trained(path, small_config())

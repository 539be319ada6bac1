"""Weights of any layout written as a file, and read again."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from svllreid.build import load_trained
from svllreid.errors import CheckpointError, OutputError
from svllreid.models.clip import load_clip
from svllreid.models.convert import convert


def activation_of(name, weights):
    return type(load_clip(name, str(weights)).text.transformer.resblocks[0].mlp.gelu).__name__


def without(state, *parts):
    return {name: value for name, value in state.items() if not any(part in name for part in parts)}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_our_checkpoint_goes_out_in_the_published_layout(write_published, published_config, golden, tmp_path, suffix):
    path, target = tmp_path / "ours.pth", tmp_path / "out" / f"published.{suffix}"
    before = write_published("vit", path)
    kind = convert(str(path), target, "ViT-B-16")
    assert kind == "a ReID checkpoint in the published layout, a ViT of width 128 with 12 blocks and 10 patches"
    after = load_file(target) if suffix == "safetensors" else torch.load(target, weights_only=True)
    keys = json.loads((golden / "vit_small.json").read_text())["model_keys"]
    assert {name: list(value.shape) for name, value in after.items()} == keys
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not target.with_suffix(".json").exists()
    model, _, _ = load_trained(target, published_config("vit"))
    assert torch.equal(model.cv_embed, before["cv_embed"])


def test_a_converted_checkpoint_keeps_its_json_and_simsiam_loses_text_mlp(trained, tmp_path):
    path, before = trained({"MODEL.SSL_TYPE": "SIMSIAM"})
    target = tmp_path / "out.safetensors"
    convert(str(path), target, "ViT-B-16")
    assert load_file(target).keys() == without(before, "text_mlp.").keys() != before.keys()
    images = torch.randn(2, 3, 32, 16)
    first, second = (load_trained(file)[0].eval() for file in (path, target))
    assert torch.equal(first.embed(images), second.embed(images))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_clip_goes_out_in_openais_layout(hub_state, hub_folder, tmp_path, suffix):
    folder, target = hub_folder(tmp_path / "hub", hub_state, hidden_act="gelu"), tmp_path / f"clip.{suffix}"
    assert convert(str(folder), target, "ViT-B-16") == "CLIP's weights in OpenAI's layout"
    first, second = (load_clip("tiny", str(weights)).text for weights in (folder, target))
    expected = first.state_dict()
    written = load_file(target) if suffix == "safetensors" else torch.load(target, weights_only=True)
    assert written.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in second.state_dict().items())
    assert activation_of("tiny", target) == "GELU"
    half = {name: value.half() if value.is_floating_point() else value for name, value in written.items()}
    torch.save({"state_dict": {f"module.{name}": value for name, value in half.items()}}, tmp_path / "half.pt")
    convert(str(tmp_path / "half.pt"), tmp_path / "kept.pt", "ViT-B-16")
    kept = torch.load(tmp_path / "kept.pt", weights_only=True)
    assert all(torch.equal(kept[name], half[name]) and kept[name].dtype == half[name].dtype for name in half)


def test_a_resnet_and_a_wider_mlp_are_whole(small_clip, tmp_path):
    torch.save(load_clip("RN50", "random").text.state_dict(), tmp_path / "a.pt")
    convert(str(tmp_path / "a.pt"), tmp_path / "b.safetensors", "tiny")
    assert load_file(tmp_path / "b.safetensors").keys() == torch.load(tmp_path / "a.pt", weights_only=True).keys()
    wide = open_clip.get_model_config("ViT-B-16")
    wide["vision_cfg"]["mlp_ratio"] = 4.9231
    torch.save(open_clip.CLIP(**wide).state_dict(), tmp_path / "c.pt")
    convert(str(tmp_path / "c.pt"), tmp_path / "d.pt", "tiny")


def test_a_tag_goes_out_with_its_activation(clip_state, tmp_path, monkeypatch):
    torch.save(clip_state, tmp_path / "fetched.bin")
    monkeypatch.setattr("open_clip.download_pretrained", lambda config: str(tmp_path / "fetched.bin"))
    for tag, quick_gelu in (("openai", True), ("laion2b_s34b_b88k", False)):
        convert(tag, tmp_path / f"{tag}.safetensors", "ViT-B-16")
        assert json.loads((tmp_path / f"{tag}.json").read_text()) == {"quick_gelu": quick_gelu}


def test_what_cannot_be_converted(clip_state, tmp_path):
    source = tmp_path / "clip.pt"
    torch.save(clip_state, source)
    torch.save({"backbone.weight": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save(without(clip_state, "ln_post"), tmp_path / "part.pt")
    broken = {**clip_state, "transformer.resblocks.0.mlp.c_fc.bias": torch.tensor(1.0)}
    torch.save(broken, tmp_path / "broken.pt")
    (tmp_path / "there.json").write_text("mine")
    for weights, target, words in (
        (source, "out.onnx", r"out\.onnx: weights are written as \.pth, \.pt or \.safetensors"),
        (source, "clip.pt", r"clip\.pt is there already"),
        (source, "there.pt", r"there\.json is there already"),
        (tmp_path / "other.pt", "out.pt", r"other\.pt holds neither a ReID checkpoint nor CLIP's weights"),
        (tmp_path / "part.pt", "out.pt", r"part\.pt does not fit: 2 entries missing.*ln_post"),
        (tmp_path / "broken.pt", "out.pt", r"broken\.pt has sizes of no CLIP"),
        (tmp_path / "nowhere.pt", "out.pt", "neither a file nor a tag of ViT-B-16"),
    ):
        with pytest.raises((CheckpointError, OutputError), match=words):
            convert(str(weights), tmp_path / target, "ViT-B-16")
    assert not (tmp_path / "out.pt").exists() and (tmp_path / "there.json").read_text() == "mine"


@pytest.mark.parametrize("broken", ["_write", "write_json"])
def test_what_could_not_be_written_whole_leaves_nothing(trained, tmp_path, monkeypatch, broken):
    """Weights without their .json would be taken for those of a published model."""
    path, _ = trained({})
    (tmp_path / "out").mkdir()

    def full(*_):
        raise OutputError("no space left")

    monkeypatch.setattr(f"svllreid.models.convert.{broken}", full)
    with pytest.raises(OutputError, match="no space left"):
        convert(str(path), tmp_path / "out" / "model.pth", "ViT-B-16")
    assert not list((tmp_path / "out").iterdir())

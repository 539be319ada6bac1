"""CLIP's weights as transformers and open_clip store them."""

import json

import open_clip
import pytest
import torch
from torch.nn import functional as F

from svllreid import build_model
from svllreid.errors import CheckpointError
from svllreid.models.clip import load_clip
from svllreid.models.layouts import OPENAI, REID, TRANSFORMERS, layout_of, tensors, unwrapped
from svllreid.models.prompts import tokenize

ACTIVATIONS = {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "gelu": F.gelu}


def reference_blocks(state, tower, x, heads, activation, causal=False):
    """The encoder as transformers defines it: pre-norm attention and MLP, each with a shortcut."""

    def affine(name, values):
        return F.linear(values, state[f"{name}.weight"], state[f"{name}.bias"])

    def normed(name, values):
        return F.layer_norm(values, values.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    count, length, width = x.shape
    mask = torch.full((length, length), float("-inf")).triu(1) if causal else torch.zeros(length, length)
    for number in range(sum(name.startswith(tower) and name.endswith("fc1.bias") for name in state)):
        block = f"{tower}.encoder.layers.{number}"
        y = normed(f"{block}.layer_norm1", x)
        q, k, v = (
            affine(f"{block}.self_attn.{part}_proj", y).view(count, length, heads, -1).transpose(1, 2) for part in "qkv"
        )
        attended = (q @ k.transpose(2, 3) * (width // heads) ** -0.5 + mask).softmax(-1) @ v  # (n, heads, length, d)
        x = x + affine(f"{block}.self_attn.out_proj", attended.transpose(1, 2).reshape(count, length, width))
        y = activation(affine(f"{block}.mlp.fc1", normed(f"{block}.layer_norm2", x)))
        x = x + affine(f"{block}.mlp.fc2", y)
    return x, normed


def reference_image_features(state, images, activation):
    """pooler_output and image_embeds of CLIPModel."""
    at = "vision_model.embeddings"
    patches = F.conv2d(images, state[f"{at}.patch_embedding.weight"], stride=16).flatten(2).transpose(1, 2)
    x = torch.cat([state[f"{at}.class_embedding"].expand(len(images), 1, -1), patches], dim=1)
    x = x + state[f"{at}.position_embedding.weight"]
    first = "vision_model.pre_layrnorm"
    x = F.layer_norm(x, x.shape[-1:], state[f"{first}.weight"], state[f"{first}.bias"])
    x, normed = reference_blocks(state, "vision_model", x, 4, activation)
    pooled = normed("vision_model.post_layernorm", x[:, 0])
    return pooled, pooled @ state["visual_projection.weight"].T


def reference_text_features(state, token_ids, activation):
    """text_embeds of CLIPModel."""
    at = "text_model.embeddings"
    x = state[f"{at}.token_embedding.weight"][token_ids] + state[f"{at}.position_embedding.weight"]
    x, normed = reference_blocks(state, "text_model", x, 1, activation, causal=True)
    pooled = normed("text_model.final_layer_norm", x)[torch.arange(len(x)), token_ids.argmax(1)]
    return pooled @ state["text_projection.weight"].T


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@torch.no_grad()
def test_transformers_weights_give_transformers_features(
    hub_state, hub_folder, tmp_path, small_config, file, hidden_act
):
    folder = hub_folder(tmp_path / "hub", hub_state, file, hidden_act)
    pretrained = str(folder if hidden_act == "gelu" else folder / file)
    sizes = {"INPUT.SIZE_TRAIN": [128, 128], "INPUT.SIZE_TEST": [128, 128]}
    network = build_model(small_config({"MODEL.PRETRAINED": pretrained, **sizes}), num_classes=2).eval()
    activation = ACTIVATIONS[hidden_act]
    images = torch.randn(3, 3, 128, 128)
    pooled, embedded = reference_image_features(hub_state, images, activation)
    features = network.encode_image(images)
    torch.testing.assert_close(features.final, pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.proj, embedded, rtol=1e-5, atol=1e-5)

    token_ids, _ = tokenize("person")
    words = hub_state["text_model.embeddings.token_embedding.weight"][token_ids[0, 5:9]]
    network.prompt_learner.cls_ctx.copy_(words.expand(2, -1, -1))  # the prompt with its X in place
    expected = reference_text_features(hub_state, token_ids, activation)
    torch.testing.assert_close(network.encode_all_text(), expected.expand(2, -1), rtol=1e-5, atol=1e-5)
    token_ids = open_clip.SimpleTokenizer()(["a photo of a cat", "two red cars, seen from behind"])
    expected = reference_text_features(hub_state, token_ids, activation)
    torch.testing.assert_close(
        load_clip("tiny", pretrained).text.encode_text(token_ids), expected, rtol=1e-5, atol=1e-5
    )


def activation_of(name, weights):
    return type(load_clip(name, str(weights)).text.transformer.resblocks[0].mlp.gelu).__name__


def test_activation_as_the_file_beside_says(hub_state, hub_folder, tmp_path):
    folder = hub_folder(tmp_path / "hub", hub_state)
    told = folder / "config.json"
    gelu = {"hidden_act": "gelu"}
    for config, expected in (
        ({"model_type": "clip", "vision_config": {"patch_size": 16}, "text_config": {}}, "QuickGELU"),
        ({"vision_config": None, "vision_config_dict": gelu, "text_config_dict": gelu}, "GELU"),
        ({"_class_name": "of something else"}, "QuickGELU"),
        ([], "QuickGELU"),
    ):
        told.write_text(json.dumps(config))
        assert activation_of("tiny", folder) == expected
    told.write_text(json.dumps({"vision_config": gelu, "text_config": {}}))
    with pytest.raises(CheckpointError, match=r"config\.json: hidden_act gelu and quick_gelu; both towers"):
        load_clip("tiny", str(folder))
    told.write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json beside the weights cannot be read.*fix or remove"):
        load_clip("tiny", str(folder))


def without(state, *parts):
    return {name: value for name, value in state.items() if not any(part in name for part in parts)}


def test_what_transformers_files_lack_is_named(hub_state, hub_folder, tmp_path):
    block = "vision_model.encoder.layers.3.self_attn"
    for name, state, words in (
        ("vision only", without(hub_state, "text"), r"not CLIP in OpenAI's.*'positional_embedding'.*both towers"),
        ("no keys", without(hub_state, f"{block}.k_proj.weight"), "q_proj.weight does not go with its keys"),
        ("no queries", without(hub_state, f"{block}.q_proj"), r"2 entries missing.*resblocks\.3"),
        ("other", {**hub_state, "vision_model.head.probe": torch.zeros(1)}, r"1 unknown.*visual\.head\.probe"),
    ):
        folder = hub_folder(tmp_path / name, state)
        with pytest.raises(CheckpointError, match=words):
            load_clip("tiny", str(folder))
    with pytest.raises(CheckpointError, match=r"does not hold RN50: .*width 256 instead of 64"):
        load_clip("RN50", str(hub_folder(tmp_path / "whole", hub_state)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty has no model\.safetensors, pytorch_model\.bin"):
        load_clip("tiny", str(tmp_path / "empty"))


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
@pytest.mark.parametrize("custom_text", [False, True])
def test_open_clip_files(clip_state, hub_folder, tmp_path, file, custom_text):
    vision = ("visual.", "logit_scale")
    state = {n if n.startswith(vision) or not custom_text else f"text.{n}": v for n, v in clip_state.items()}
    folder = hub_folder(tmp_path / "hub", state, file)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 128}}))
    loaded = load_clip("tiny", str(folder)).text
    assert all(torch.equal(value, clip_state[name]) for name, value in loaded.state_dict().items())
    assert activation_of("tiny", folder / file) == "GELU"
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    assert activation_of("tiny", folder) == "QuickGELU"


WRAPPED = ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.", "model.net._orig_mod."]
LAYOUTS = {REID: "image_encoder.conv1.weight", OPENAI: "visual.conv1.weight", TRANSFORMERS: "vision_model.a"}


@pytest.mark.parametrize("prefix", ["", *WRAPPED])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_lose_their_wrappers_until_the_layout_is_recognised(layout, prefix):
    names = [LAYOUTS[layout], "model.own", "logit_scale", "module.of.its.own"]
    state = {f"{prefix}{name}": torch.ones(1) for name in names}
    found = tensors({**state, "epoch": 3})
    assert list(found) == names and layout_of(found) == layout


@pytest.mark.parametrize(
    "names",
    [
        ["model.visual.a", "criterion.centers"],  # not all of them
        ["model.a", "model.b"],  # no layout below
        ["model.layer1.0.weight", "model.fc.weight"],
        ["module.a", "a"],
        ["visual._orig_mod.a", "visual.a"],  # one name twice
        [],
    ],
)
def test_other_names_stay(names):
    assert list(unwrapped({name: torch.ones(1) for name in names})) == names


def test_names_of_compiled_and_shared_out_parts():
    state = {
        "image_encoder._orig_mod.blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module.weight": torch.ones(1),
        "module.prompt_orig_mod.x": torch.ones(1),
        "_orig_mod.model.x": torch.ones(1),
    }
    assert list(unwrapped(state)) == ["image_encoder.blocks.0.weight", "module.prompt_orig_mod.x", "model.x"]


@pytest.mark.parametrize("prefix", WRAPPED)
def test_clips_of_wrapped_models_load(clip_state, tmp_path, prefix):
    file = tmp_path / "clip.ckpt"
    torch.save({"epoch": 1, "state_dict": {f"{prefix}{name}": value for name, value in clip_state.items()}}, file)
    loaded = load_clip("tiny", str(file)).text.state_dict()
    assert all(torch.equal(value, clip_state[name]) for name, value in loaded.items())


def test_what_is_in_a_file_of_no_layout_is_named(tmp_path):
    torch.save({"model.visual.a": torch.ones(1), "criterion.centers": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"not CLIP in .*its entries are model\.visual\.a, criterion\.centers\)"):
        load_clip("tiny", str(tmp_path / "a.pth"))

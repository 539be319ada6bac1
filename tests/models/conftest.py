"""Weight files as others write them."""

import json

import pytest
import torch
from open_clip import factory
from safetensors.torch import save_file

from svllreid import build_model, load_config
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint
from svllreid.models.clip import load_clip


def linear(out_dim, in_dim):
    return {"weight": torch.randn(out_dim, in_dim) * in_dim**-0.5, "bias": torch.randn(out_dim) * 0.1}


def norm(dim):
    return {"weight": 1 + 0.1 * torch.randn(dim), "bias": 0.1 * torch.randn(dim)}


def named(prefix, entries):
    return {f"{prefix}.{name}": value for name, value in entries.items()}


def hub_blocks(tower, width, count):
    found = {}
    for number in range(count):
        block = f"{tower}.encoder.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= named(f"{block}.self_attn.{part}", linear(width, width))
        found |= named(f"{block}.mlp.fc1", linear(4 * width, width)) | named(
            f"{block}.mlp.fc2", linear(width, 4 * width)
        )
        found |= named(f"{block}.layer_norm1", norm(width)) | named(f"{block}.layer_norm2", norm(width))
    return found


@pytest.fixture(scope="session")
def hub_state():
    """Random weights of the tiny backbone's sizes under the names of transformers' CLIPModel."""
    torch.manual_seed(11)
    vision, text = "vision_model", "text_model"
    return {
        "logit_scale": torch.tensor(2.6592),
        "visual_projection.weight": torch.randn(128, 256) / 16,
        "text_projection.weight": torch.randn(128, 64) / 8,
        f"{vision}.embeddings.class_embedding": torch.randn(256),
        f"{vision}.embeddings.patch_embedding.weight": torch.randn(256, 3, 16, 16) / 28,
        f"{vision}.embeddings.position_embedding.weight": torch.randn(65, 256),
        f"{vision}.embeddings.position_ids": torch.arange(65)[None],
        **named(f"{vision}.pre_layrnorm", norm(256)),
        **named(f"{vision}.post_layernorm", norm(256)),
        **hub_blocks(vision, 256, 6),
        f"{text}.embeddings.token_embedding.weight": torch.randn(49408, 64),
        f"{text}.embeddings.position_embedding.weight": torch.randn(77, 64),
        f"{text}.embeddings.position_ids": torch.arange(77)[None],
        **named(f"{text}.final_layer_norm", norm(64)),
        **hub_blocks(text, 64, 4),
    }


@pytest.fixture(scope="session")
def hub_folder():
    """Writes a folder as the Hugging Face hub has them."""

    def write(folder, state, file="model.safetensors", hidden_act=None):
        folder.mkdir(exist_ok=True)
        if file.endswith(".safetensors"):
            save_file(state, folder / file)
        else:
            torch.save(state, folder / file)
        if hidden_act:
            towers = {f"{tower}_config": {"hidden_act": hidden_act} for tower in ("vision", "text")}
            (folder / "config.json").write_text(json.dumps({"model_type": "clip", **towers}))
        return folder

    return write


@pytest.fixture(scope="session")
def clip_state():
    """Random weights of the tiny backbone in OpenAI's layout."""
    torch.manual_seed(2)
    return {name: value.clone() for name, value in load_clip("tiny", "random").text.state_dict().items()}


@pytest.fixture
def small_clip(monkeypatch, golden):
    """ViT-B-16 and RN50 in the recorded models' small sizes, and nothing to be fetched."""
    vit = json.loads((golden / "vit_small.json").read_text())["dims"]
    rn50 = json.loads((golden / "rn50_small.json").read_text())
    image, text = {"image_size": 224}, {"context_length": 77, "vocab_size": 49408}
    sizes = {
        "ViT-B-16": {
            "embed_dim": vit["embed_dim"],
            "vision_cfg": {**image, "layers": vit["vision_layers"], "width": vit["vision_width"], "patch_size": 16},
            "text_cfg": {**text, "width": vit["text_width"], "heads": 2, "layers": vit["text_layers"]},
        },
        "RN50": {
            "embed_dim": rn50["embed_dim"],
            "vision_cfg": {**image, "layers": rn50["layers"], "width": rn50["width"], "patch_size": None},
            "text_cfg": {**text, "width": rn50["text_width"], "heads": 8, "layers": rn50["text_layers"]},
        },
    }
    for name, size in sizes.items():
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, size)
    monkeypatch.setattr("open_clip.download_pretrained", lambda *a, **k: pytest.fail("fetched"))


@pytest.fixture(scope="session")
def published_config():
    """Builds the configuration of a recorded model, `vit` or `rn50`."""

    def make(kind, *words):
        shipped = "person/vit_svllreid.yml" if kind == "vit" else "person/rn50_clipreid.yml"
        sizes = [
            "INPUT.SIZE_TRAIN=[64, 32]",
            "INPUT.SIZE_TEST=[64, 32]",
            "MODEL.SSL_HIDDEN_DIM=96",
            "MODEL.SSL_OUT_DIM=32",
        ]
        return load_config(shipped, [*sizes, *words])

    return make


@pytest.fixture
def write_published(small_clip, golden, published_config):
    """Writes a file in the layout recorded of the published system, from two processes; gives what is in it."""

    def write(kind, path, seed=5):
        keys = json.loads((golden / f"{kind}_small.json").read_text())["model_keys"]
        if kind == "rn50":  # as recorded, they belong to no RN50
            keys = {n: s for n, s in keys.items() if not n.startswith(("image_mlp.", "text_mlp."))}
        config = published_config(kind, f"SOLVER.SEED={seed}")
        model = build_model(config, num_classes=11, num_cameras=6, clip="random")
        torch.manual_seed(seed)
        for neck in (model.bottleneck, model.bottleneck_proj):
            neck.running_mean.normal_(), neck.running_var.uniform_(1, 2), neck.weight.data.uniform_(0.5, 2)
        state = model.state_dict()
        assert {name: list(value.shape) for name, value in state.items()} == keys
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
        return state

    return write


@pytest.fixture
def trained(small_config, tmp_path):
    """A checkpoint of ours with a .json: images of 32 x 16, a grid of 3 x 1; overrides as for `small_config`."""

    def make(overrides=None, file="trained.pth", clip=None):
        config = small_config({"MODEL.STRIDE_SIZE": [8, 8], **(overrides or {})})
        model = build_model(config, num_classes=3, num_cameras=2, clip=clip)
        with torch.no_grad():
            for name in ("bottleneck", "bottleneck_proj"):
                getattr(model, name).running_mean.normal_()
        pids = [1, 2, 3]
        save_checkpoint(tmp_path / file, model, CheckpointInfo(config.to_yaml_tree(), 3, 2, 1, pids, 2, 2, "0"))
        return tmp_path / file, model.state_dict()

    return make

"""Names of backbones, and weights in every format they come in."""

import random
import warnings

import pytest
import torch
from safetensors.torch import save_file

from svllreid import build_model
from svllreid.errors import CheckpointError, ConfigError, ReidError
from svllreid.models.architectures import architecture_of
from svllreid.models.clip import load_clip
from svllreid.models.towers import resize_positions


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    clip = load_clip("tiny", "random").text
    return {name: value.clone() for name, value in clip.state_dict().items()}


class Archive(torch.nn.Module):
    """Looks like OpenAI's archive: half precision, three integers beside the weights."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            self._place(name, value.half() if value.is_floating_point() else value)
        for name, number in (("input_resolution", 128), ("context_length", 77), ("vocab_size", 49408)):
            self.register_buffer(name, torch.tensor(number))

    def _place(self, name, value):
        module = self
        *path, last = name.split(".")
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_buffer(last, value)

    def forward(self, x):
        return x


def write(kind, state, folder):
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    path = folder / f"weights.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "archive":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.jit.save(torch.jit.script(Archive(state)), path)
    elif kind == "safetensors":
        save_file(half, path)
    elif kind == "trainer's checkpoint":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        torch.save(half, path)
    return path


@pytest.mark.parametrize("kind", ["archive", "half state dict", "trainer's checkpoint", "safetensors"])
def test_weights_of_every_format(kind, state, tmp_path, small_config):
    path = write(kind, state, tmp_path)
    config = small_config({"MODEL.PRETRAINED": str(path), "MODEL.STRIDE_SIZE": [8, 8]})
    model = build_model(config, num_classes=3, num_cameras=2)
    exact = kind == "trainer's checkpoint"
    conv = state["visual.conv1.weight"]
    torch.testing.assert_close(model.image_encoder.conv1.weight, conv if exact else conv.half().float(), rtol=0, atol=0)
    positions = state["visual.positional_embedding"]
    resized = resize_positions(positions if exact else positions.half().float(), (3, 1))
    torch.testing.assert_close(model.image_encoder.positional_embedding, resized, rtol=0, atol=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    same = build_model(config, num_classes=3, num_cameras=2, clip=dict(state))
    torch.testing.assert_close(
        same.text_encoder.text_projection, model.text_encoder.text_projection, rtol=1e-2, atol=1e-3
    )


def test_positions_are_resized_bilinearly_and_cls_keeps_its_own():
    positions = torch.arange(5.0)[:, None]  # CLS 0, then the grid 1 2 / 3 4
    resized = resize_positions(positions, (4, 2))
    assert resized[0] == 0
    column = [1.0, 1.5, 2.5, 3.0]
    torch.testing.assert_close(resized[1:].reshape(4, 2), torch.tensor([[v, v + 1] for v in column]))
    assert resize_positions(positions, (2, 2)) is positions


def test_tiny_is_tiny(small_config):
    model = build_model(
        small_config({"INPUT.SIZE_TRAIN": [128, 64], "INPUT.SIZE_TEST": [128, 64]}), num_classes=3, num_cameras=2
    )
    vision = sum(p.numel() for p in model.image_encoder.parameters())
    assert 4.5e6 < vision < 5.5e6


def test_same_seed_same_weights_and_the_caller_keeps_its_generator(small_config):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = build_model(small_config(), num_classes=3).state_dict()
    assert torch.rand(1) == expected
    again = build_model(small_config(), num_classes=3).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = build_model(small_config({"SOLVER.SEED": 5}), num_classes=3).state_dict()
    assert not torch.equal(first["prompt_learner.cls_ctx"], other["prompt_learner.cls_ctx"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B-61", ["unknown backbone 'ViT-B-61'", "ViT-B-16"]),
        ("ViT-B-16-SigLIP", ["do not fit"]),
        ("convnext_base", ["do not fit", "vision_cfg.timm_model_name"]),
        ("coca_ViT-B-32", ["do not fit", "multimodal_cfg"]),
        ("roberta-ViT-B-32", ["do not fit", "text_cfg.hf_model_name"]),
    ],
)
def test_other_towers_are_refused_by_name(name, words):
    with pytest.raises(ConfigError) as error:
        architecture_of(name)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "name", ["ViT-B-16", "ViT-B-32", "ViT-L-14", "ViT-H-14", "ViT-B-16-quickgelu", "RN50", "RN101"]
)
def test_clip_towers_fit(name):
    assert architecture_of(name)["text_cfg"]["context_length"] == 77


@pytest.mark.parametrize(("tag", "activation"), [("openai", "QuickGELU"), ("laion2b_s34b_b88k", "GELU")])
def test_a_checkpoint_keeps_the_activation_of_the_weights_it_began_with(small_config, tag, activation):
    config = small_config({"MODEL.NAME": "ViT-B-16", "MODEL.PRETRAINED": tag, "MODEL.USE_TEXT": False})
    model = build_model(config, num_classes=2, num_cameras=2, clip="random")
    assert type(model.image_encoder.transformer.resblocks[0].mlp.gelu).__name__ == activation


def test_offline_names_the_tag(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("open_clip.download_pretrained", offline)
    with pytest.raises(CheckpointError, match=r"'openai' of ViT-B-16 could not be fetched.*local file.*random"):
        load_clip("ViT-B-16", "openai")


def offline(config):
    raise ConnectionError("no route to host")


def test_wrong_weights_are_explained(state, tmp_path):
    text = tmp_path / "notes.pt"
    text.write_text("not weights")
    list_file = tmp_path / "list.pt"
    torch.save([1, 2], list_file)
    torch.save({name: value for name, value in state.items() if "ln_post" not in name}, tmp_path / "part.pt")
    torch.save({"image_encoder.conv1.weight": torch.zeros(3)}, tmp_path / "reid.pth")
    for weights, words in (
        ("opanai", "neither a file nor a tag.*random"),
        (str(text), "notes.pt is not a readable weight file"),
        (str(list_file), "not a state dict"),
        (str(tmp_path / "part.pt"), "2 entries missing.*ln_post"),
        (str(tmp_path / "reid.pth"), "not CLIP in OpenAI's layout"),
    ):
        with pytest.raises(ReidError, match=words):
            load_clip("tiny", weights)
    for seed in range(40):
        (tmp_path / "noise.pt").write_bytes(random.Random(seed).randbytes(200))
        with pytest.raises(CheckpointError, match="not a readable weight file"):
            load_clip("tiny", str(tmp_path / "noise.pt"))
    torch.save({1: torch.zeros(2)}, tmp_path / "numbered.pt")
    with pytest.raises(CheckpointError, match="not a state dict"):
        load_clip("tiny", str(tmp_path / "numbered.pt"))
    torch.save(state, tmp_path / "tiny.pt")
    with pytest.raises(CheckpointError, match=r"does not hold ViT-B-16.*width 256 instead of 768.*name the backbone"):
        load_clip("ViT-B-16", str(tmp_path / "tiny.pt"))
    with pytest.raises(CheckpointError, match="another kind of backbone"):
        load_clip("RN50", state)


def test_nothing_in_a_file_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    torch.save({"weights": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(CheckpointError, match="not a readable weight file"):
        load_clip("tiny", str(tmp_path / "trap.pt"))
    assert not (tmp_path / "sprung").exists()

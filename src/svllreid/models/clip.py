"""CLIP towers through open_clip: which architecture a name means, and where its weights come from."""

from __future__ import annotations

import difflib
import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from safetensors import SafetensorError
from safetensors.torch import load_file

from svllreid.errors import CheckpointError, ConfigError

State = dict[str, torch.Tensor]

# About 5 million vision parameters; the text width keeps CLIP's 49,408-token table small.
TINY: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 128, "layers": 6, "width": 256, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 4},
}
_FITTING_KEYS = {
    "": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
# What torch, safetensors and pickle raise on files that are something else, or damaged.
_UNREADABLE = (
    OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError,
    SafetensorError, pickle.UnpicklingError,
)  # fmt: skip
_EXTRA_ENTRIES = ("input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True)
class ClipTowers:
    """The parts of a CLIP model that ReID takes.

    Args:
        vision: VisionTransformer or ModifiedResNet of open_clip.
        text: the module that holds transformer, token_embedding, positional_embedding, ln_final, text_projection.
        vision_width: width of the image tower (ViT) or of its first stage (ResNet).
        embed_dim: width of the joint embedding (E).
        text_width: width of the text transformer (T).
    """

    vision: VisionTransformer | ModifiedResNet
    text: open_clip.CLIP
    vision_width: int
    embed_dim: int
    text_width: int


def load_clip(name: str, weights: str | State, activation_of: str | None = None) -> ClipTowers:
    """The CLIP towers of a backbone with their weights, in float32 on the CPU.

    Args:
        name: `tiny`, or a CLIP ViT or ResNet that open_clip names.
        weights: `openai` or another open_clip tag (fetched through the hub, cached), a file (OpenAI's TorchScript
            archive, a state dict, safetensors), `random` (drawn from torch's generator), or a state dict in OpenAI's
            layout, whose shapes then decide the sizes.
        activation_of: the tag that decides between QuickGELU and GELU, for weights that follow from elsewhere (a
            checkpoint trained from that tag); None: `weights` themselves.
    Raises:
        ConfigError: unknown name, or towers that do not fit.
        CheckpointError: weights that cannot be fetched, read or fitted.
    """
    architecture = architecture_of(name)
    if isinstance(weights, dict):
        state, origin = clean(weights), "the given state dict"
        architecture = _fit_sizes(architecture, state, name, origin)
    elif weights == "random":
        state, origin = None, "random"
    else:
        state, origin = _read_weights(name, weights)
        _check_same_sizes(architecture, state, name, origin)
    quick_gelu = architecture.get("quick_gelu", False) or _trained_with_quick_gelu(name, activation_of or weights)
    clip = open_clip.CLIP(**{**architecture, "quick_gelu": quick_gelu}).float()
    if state is not None:
        _load_strictly(clip, state, origin)
    return ClipTowers(
        clip.visual,
        clip,
        architecture["vision_cfg"]["width"],
        architecture["embed_dim"],
        architecture["text_cfg"]["width"],
    )


def architecture_of(name: str) -> dict[str, Any]:
    """open_clip's description of a backbone; ConfigError where it is unknown or its towers do not fit."""
    if name == "tiny":
        return TINY
    if name not in open_clip.list_models():
        near = difflib.get_close_matches(name, ["tiny", *open_clip.list_models()], n=3, cutoff=0.4)
        raise ConfigError(
            f"MODEL.NAME: unknown backbone {name!r}; nearest: {', '.join(near) or 'ViT-B-16, RN50, tiny'}"
        )
    architecture = open_clip.get_model_config(name)
    text = architecture.get("text_cfg", {})
    odd = [key for key in architecture if key not in _FITTING_KEYS[""]]
    for part in ("vision_cfg", "text_cfg"):
        odd += [f"{part}.{key}" for key in architecture.get(part, {}) if key not in _FITTING_KEYS[part]]
    odd += [
        f"text_cfg.{key}" for key, value in (("context_length", 77), ("vocab_size", 49408)) if text.get(key) != value
    ]
    if odd:
        raise ConfigError(
            f"MODEL.NAME: the towers of {name} do not fit: {', '.join(dict.fromkeys(odd))} "
            "differ from CLIP's; take a CLIP ViT such as ViT-B-16, ViT-L-14 or ViT-H-14, or RN50"
        )
    return architecture


def clean(state: dict[str, Any]) -> State:
    """A state dict in float32 without OpenAI's three integers and without `module.` prefixes."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    return {
        key: value.float() if value.is_floating_point() else value
        for key, value in state.items()
        if key not in _EXTRA_ENTRIES and isinstance(value, torch.Tensor)
    }


def read_state(path: Path) -> dict[str, Any]:
    """The state dict in a safetensors file, a TorchScript archive or a torch file; nothing in it is executed.

    Raises: CheckpointError: no such file, or not a state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"no weight file {path}; give the path of an existing .pth, .pt or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_torchscript(path):
            with warnings.catch_warnings():  # OpenAI's archives stay TorchScript, whatever becomes of it
                warnings.simplefilter("ignore", FutureWarning)
                return dict(torch.jit.load(path, map_location="cpu").state_dict())
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} is not a readable weight file: {reason}") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = isinstance(content, dict) and all(isinstance(key, str) for key in content)
    if not named or not any(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds a {type(content).__name__} without tensors, not a state dict of weights")
    return content


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(entry.endswith("constants.pkl") for entry in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _read_weights(name: str, weights: str) -> tuple[State, str]:
    """The state dict of a file or tag, and what to call it."""
    tags = open_clip.list_pretrained_tags_by_model(name) if name != "tiny" else []
    path = Path(weights).expanduser()
    if weights in tags and not path.is_file():
        path = _fetch(name, weights)
    elif not path.is_file():
        near = difflib.get_close_matches(weights, ["random", *tags], n=3, cutoff=0.4)
        known = f"nearest: {', '.join(near)}" if near else f"tags: {', '.join(['random', *tags])}"
        raise CheckpointError(f"MODEL.PRETRAINED: {weights!r} is neither a file nor a tag of {name}; {known}")
    return clean(read_state(path)), str(path)


def _fetch(name: str, tag: str) -> Path:
    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, tag)))
    except Exception as error:  # the hub's client raises its own, the network's and the disk's errors alike
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"the weights {tag!r} of {name} could not be fetched ({type(error).__name__}: {reason}); connect to the "
            "network once, or give a local file as MODEL.PRETRAINED, or random to start without"
        ) from None


def _trained_with_quick_gelu(name: str, weights: str | State) -> bool:
    """QuickGELU where the weights' tag says so; other weights of OpenAI's architectures, and tiny, use it too."""
    if name == "tiny":
        return True
    tags = open_clip.list_pretrained_tags_by_model(name)
    if isinstance(weights, str) and weights in tags:
        return bool(open_clip.get_pretrained_cfg(name, weights).get("quick_gelu", False))
    return "openai" in tags


def _sizes(state: State) -> dict[str, Any]:
    """Sizes that the shapes of a state dict in OpenAI's layout tell; KeyError where it has another layout."""
    text = {
        "context_length": state["positional_embedding"].shape[0],
        "vocab_size": state["token_embedding.weight"].shape[0],
        "width": state["ln_final.weight"].shape[0],
        "layers": _count(state, "transformer.resblocks."),
    }
    if "visual.proj" in state:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        layers: Any = _count(state, "visual.transformer.resblocks.")
        vision = {"width": width, "patch_size": patch, "layers": layers, "image_size": grid * patch}
    else:
        grid = round((state["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
        layers = [_count(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)]
        width = state["visual.layer1.0.conv1.weight"].shape[0]
        vision = {"width": width, "layers": layers, "image_size": grid * 32}
    return {"embed_dim": state["text_projection"].shape[1], "vision_cfg": vision, "text_cfg": text}


def _count(state: State, prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def _sizes_or_refuse(state: State, name: str, origin: str) -> dict[str, Any]:
    try:
        return _sizes(state)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{origin} is not CLIP in OpenAI's layout (no entry {error}); for a trained ReID model set TEST.WEIGHT, "
            f"for CLIP's weights of {name} give OpenAI's archive, a state dict or safetensors"
        ) from None


def _fit_sizes(architecture: dict[str, Any], state: State, name: str, origin: str) -> dict[str, Any]:
    """The named architecture with the sizes of the given weights."""
    sizes = _sizes_or_refuse(state, name, origin)
    if isinstance(sizes["vision_cfg"]["layers"], list) != isinstance(architecture["vision_cfg"]["layers"], list):
        raise CheckpointError(f"{origin} is of another kind of backbone than MODEL.NAME {name}; name the one it is of")
    if not _differences(architecture, sizes):
        return architecture
    sizes["text_cfg"]["heads"] = max(1, sizes["text_cfg"]["width"] // 64)
    return {**sizes, "quick_gelu": architecture.get("quick_gelu", False)}


def _check_same_sizes(architecture: dict[str, Any], state: State, name: str, origin: str) -> None:
    differing = _differences(architecture, _sizes_or_refuse(state, name, origin))
    if differing:
        raise CheckpointError(f"{origin} does not hold {name}: {', '.join(differing)}; set MODEL.NAME to its backbone")


def _differences(architecture: dict[str, Any], sizes: dict[str, Any]) -> list[str]:
    found = []
    for part in ("vision_cfg", "text_cfg"):
        for key, value in sizes[part].items():
            expected = architecture[part].get(key)
            if key != "image_size" and value != expected:  # positions are resized anyway
                found.append(f"{part.split('_')[0]} {key} {value} instead of {expected}")
    if sizes["embed_dim"] != architecture["embed_dim"]:
        found.append(f"embed_dim {sizes['embed_dim']} instead of {architecture['embed_dim']}")
    return found


def _load_strictly(clip: open_clip.CLIP, state: State, origin: str) -> None:
    grid_key = "visual.positional_embedding"
    if grid_key in state and state[grid_key].shape != clip.visual.positional_embedding.shape:
        clip.visual.positional_embedding = torch.nn.Parameter(torch.empty_like(state[grid_key]))
    try:
        missing, unexpected = clip.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise CheckpointError(f"{origin} does not fit: {'; '.join(lines[:5])}") from None
    missing = [key for key in missing if key != "logit_scale" and not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise CheckpointError(
            f"{origin} does not fit: {len(missing)} entries missing (first {missing[:3]}), "
            f"{len(unexpected)} unknown (first {unexpected[:3]})"
        )

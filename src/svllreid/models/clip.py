"""CLIP towers through open_clip: which architecture a name means, and where its weights come from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer

from svllreid.errors import CheckpointError, ConfigError
from svllreid.files import is_file, is_folder, user_path
from svllreid.models.layouts import (
    State,
    clean,
    hub_file,
    layout_of,
    quick_gelu_beside,
    refuse_nan,
    some_names,
    tensors,
    to_openai,
)
from svllreid.models.weight_file import read_state

# About 5 million vision parameters; the text width keeps CLIP's 49,408-token table small.
TINY: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 96, "layers": 6, "width": 256, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 4},
}
# Weights that come with the package; `svllreid pretrain` made them.
SHIPPED = {"tiny": {"rendered-people": Path(__file__).with_name("tiny_clip.safetensors")}}
_FITTING_KEYS = {
    "": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}


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


@dataclass(frozen=True)
class Weights:
    """Weights from a file.

    Args:
        state: their entries as stored; CLIP's in OpenAI's layout.
        path: of the file.
        layout: of the file; None: an unknown one.
        quick_gelu: whether they were trained with QuickGELU, where tag or file say so.
    """

    state: State
    path: Path
    layout: str | None
    quick_gelu: bool | None


def load_clip(name: str, weights: str | State | Weights, quick_gelu: bool | None = None) -> ClipTowers:
    """The CLIP towers of a backbone with their weights, in float32 on the CPU.

    Args:
        name: `tiny`, or a CLIP ViT or ResNet that open_clip names.
        weights: what `read_weights` takes or gives, `random` (drawn from torch's generator), or a state dict in
            OpenAI's layout, whose shapes then decide the sizes.
        quick_gelu: QuickGELU or GELU, for weights that follow from elsewhere; None: as `weights` were trained.
    Raises:
        ConfigError: unknown name, or towers that do not fit.
        CheckpointError: weights that cannot be fetched, read or fitted.
    """
    architecture = architecture_of(name)
    if isinstance(weights, str) and weights != "random":
        weights = read_weights(name, weights)
    state: State | None = None
    origin = "the given state dict"
    if isinstance(weights, Weights):
        state, origin = clean(weights.state), str(weights.path)
        _check_same_sizes(architecture, state, name, origin)
        quick_gelu = weights.quick_gelu if quick_gelu is None else quick_gelu
    elif isinstance(weights, dict):
        state = clean(weights)
        architecture = _fit_sizes(architecture, state, name, origin)
    if quick_gelu is None:
        quick_gelu = uses_quick_gelu(name)
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


def read_weights(name: str, weights: str) -> Weights:
    """The weights that MODEL.PRETRAINED names.

    Args:
        name: MODEL.NAME.
        weights: `rendered-people` of tiny, which comes with the package; `openai` or another open_clip tag of other
            backbones (fetched through the hub, cached); a file: OpenAI's TorchScript
            archive, a state dict or safetensors in OpenAI's, open_clip's or transformers' layout, a ReID checkpoint; or
            a folder of the Hugging Face hub.
    Raises:
        ConfigError: unknown name, or towers that do not fit.
        CheckpointError: no such file or tag, or it cannot be fetched or read.
    """
    architecture_of(name)
    tags = _tags(name)
    path = user_path(weights)
    tagged = weights in tags and not is_file(path)
    if tagged:
        path = _fetch(name, weights)
    elif is_folder(path):
        path = hub_file(path)
    elif not is_file(path):
        near = difflib.get_close_matches(weights, ["random", *tags], n=3, cutoff=0.4)
        known = f"nearest: {', '.join(near)}" if near else f"tags: {', '.join(['random', *tags])}"
        raise CheckpointError(f"MODEL.PRETRAINED: {weights!r} is neither a file nor a tag of {name}; {known}")
    state = tensors(read_state(path))
    layout = layout_of(state)
    quick_gelu = uses_quick_gelu(name, weights) if tagged else quick_gelu_beside(path, layout)
    return Weights(to_openai(state, str(path)), path, layout, quick_gelu)


def _tags(name: str) -> list[str]:
    return list(SHIPPED[name]) if name in SHIPPED else open_clip.list_pretrained_tags_by_model(name)


def _fetch(name: str, tag: str) -> Path:
    if name in SHIPPED:
        return SHIPPED[name][tag]
    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, tag)))
    except Exception as error:  # the hub's client raises its own, the network's and the disk's errors alike
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"the weights {tag!r} of {name} could not be fetched ({type(error).__name__}: {reason}); connect to the "
            "network once, or give a local file as MODEL.PRETRAINED, or random to start without"
        ) from None


def uses_quick_gelu(name: str, weights: str = "") -> bool:
    """QuickGELU where name or tag says so; weights without a tag use it if they are tiny or of OpenAI's backbones."""
    if name == "tiny" or architecture_of(name).get("quick_gelu", False):
        return True
    if weights in _tags(name):
        return bool(open_clip.get_pretrained_cfg(name, weights).get("quick_gelu", False))
    return "openai" in _tags(name)


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


def _sizes_or_refuse(state: State, origin: str) -> dict[str, Any]:
    try:
        return _sizes(state)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise CheckpointError(
            f"{origin} is not CLIP in OpenAI's layout, open_clip's or transformers' (no entry {error}; "
            f"{some_names(state)}); give a file that holds both towers: OpenAI's archive, a state dict or safetensors"
        ) from None


def check_whole(state: State, origin: str) -> None:
    """CheckpointError where a state dict in OpenAI's layout is not one whole CLIP model and nothing else."""
    sizes = _sizes_or_refuse(state, origin)
    vision, text = sizes["vision_cfg"], sizes["text_cfg"]
    try:
        for cfg, block in ((vision, "visual.transformer.resblocks.0."), (text, "transformer.resblocks.0.")):
            if (hidden := state.get(f"{block}mlp.c_fc.bias")) is not None:
                cfg["mlp_ratio"] = (len(hidden) + 0.5) / cfg["width"]  # open_clip multiplies and rounds down
        # How many heads there are changes no shape.
        text["heads"], vision["head_width"] = 1, vision["width"] * (32 if isinstance(vision["layers"], list) else 1)
        with torch.device("meta"):
            clip = open_clip.CLIP(**sizes)
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{origin} has sizes of no CLIP ({error}); download or copy it again") from None
    _load_strictly(clip, {name: value.to("meta") for name, value in state.items()}, origin)


def _fit_sizes(architecture: dict[str, Any], state: State, name: str, origin: str) -> dict[str, Any]:
    """The named architecture with the sizes of the given weights."""
    sizes = _sizes_or_refuse(state, origin)
    if isinstance(sizes["vision_cfg"]["layers"], list) != isinstance(architecture["vision_cfg"]["layers"], list):
        raise CheckpointError(f"{origin} is of another kind of backbone than MODEL.NAME {name}; name the one it is of")
    if not _differences(architecture, sizes):
        return architecture
    sizes["text_cfg"]["heads"] = max(1, sizes["text_cfg"]["width"] // 64)
    return sizes


def _check_same_sizes(architecture: dict[str, Any], state: State, name: str, origin: str) -> None:
    differing = _differences(architecture, _sizes_or_refuse(state, origin))
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
    refuse_nan(state, origin)
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

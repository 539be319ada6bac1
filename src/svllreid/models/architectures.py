"""Architectures of CLIP's backbones: by their name, and by the shapes of weights."""

from __future__ import annotations

import difflib
from typing import Any

import open_clip

from svllreid.errors import CheckpointError, ConfigError
from svllreid.models.layouts import State, some_names

# About 5 million vision parameters; the text width keeps CLIP's 49,408-token table small.
TINY: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 96, "layers": 6, "width": 256, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 4},
}
_FITTING_KEYS = {
    "": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}


def architecture_of(name: str) -> dict[str, Any]:
    """open_clip's description of a backbone; ConfigError where it is unknown or its towers do not fit.

    >>> architecture_of("ViT-B-16")["vision_cfg"]["layers"]
    12
    """
    if name == "tiny":
        return TINY
    if name not in open_clip.list_models():
        near = difflib.get_close_matches(name, ["tiny", *open_clip.list_models()], n=3, cutoff=0.4)
        raise ConfigError(
            f"unknown backbone {name!r}; nearest: {', '.join(near) or 'ViT-B-16, RN50, tiny'}", settings=("backbone",)
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
            f"the towers of {name} do not fit: {', '.join(dict.fromkeys(odd))} "
            "differ from CLIP's; take a CLIP ViT such as ViT-B-16, ViT-L-14 or ViT-H-14, or RN50",
            settings=("backbone",),
        )
    return architecture


def sizes_of(state: State, origin: str) -> dict[str, Any]:
    """The sizes that the shapes of CLIP's weights tell, under the names of open_clip's descriptions.

    Args:
        state: in OpenAI's layout.
        origin: what to call it in messages.
    Raises: CheckpointError: another layout, or not both towers.
    """
    try:
        return _sizes(state)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise CheckpointError(
            f"{origin} is not CLIP in OpenAI's layout, open_clip's or transformers' (no entry {error}; "
            f"{some_names(state)}); give a file that holds both towers: OpenAI's archive, a state dict or safetensors"
        ) from None


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


def differences(architecture: dict[str, Any], sizes: dict[str, Any]) -> list[str]:
    """Where the sizes of weights differ from those of an architecture, in words; empty where they fit."""
    listed = []
    for part in ("vision_cfg", "text_cfg"):
        for key, value in sizes[part].items():
            expected = architecture[part].get(key)
            if key != "image_size" and value != expected:  # positions are resized anyway
                listed.append(f"{part.split('_')[0]} {key} {value} instead of {expected}")
    if sizes["embed_dim"] != architecture["embed_dim"]:
        listed.append(f"embed_dim {sizes['embed_dim']} instead of {architecture['embed_dim']}")
    return listed

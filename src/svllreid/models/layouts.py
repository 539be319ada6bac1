"""Layouts that weights come in, recognised by the names of their entries.

`openai` is OpenAI's own and open_clip's, `transformers` that of Hugging Face's CLIPModel, `reid` the published ReID
checkpoints'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from svllreid.errors import CheckpointError
from svllreid.files import is_file

State = dict[str, torch.Tensor]

OPENAI, TRANSFORMERS, REID = "openai", "transformers", "reid"
# What a folder of the Hugging Face hub calls its weights; where it has several they hold the same.
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_SIGNS = {REID: ("image_encoder.",), TRANSFORMERS: ("vision_model.", "text_model."), OPENAI: ("visual.",)}
# What training code puts before every name: DistributedDataParallel, torch.compile, and modules that hold the network.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
# What torch puts into the middle of names, where a part of a network is compiled or sharded.
_INSIDE = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_EXTRA_ENTRIES = ("input_resolution", "context_length", "vocab_size")

_PROJECTIONS = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
_OPENAI_NAMES = {
    r"^vision_model\.": "visual.",
    r"^text_model\.": "",
    r"\bembeddings\.class_embedding$": "class_embedding",
    r"\bembeddings\.patch_embedding\.": "conv1.",
    r"\bembeddings\.position_embedding\.weight$": "positional_embedding",
    r"\bembeddings\.token_embedding\.": "token_embedding.",
    r"\bpre_layrnorm\.": "ln_pre.",
    r"\bpost_layernorm\.": "ln_post.",
    r"\bfinal_layer_norm\.": "ln_final.",
    r"\bencoder\.layers\.": "transformer.resblocks.",
    r"\bself_attn\.q_proj\.": "attn.in_proj_",
    r"\bself_attn\.": "attn.",
    r"\blayer_norm([12])\.": r"ln_\1.",
    r"\bmlp\.fc1\.": "mlp.c_fc.",
    r"\bmlp\.fc2\.": "mlp.c_proj.",
}
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}


def tensors(state: dict[str, Any]) -> State:
    """The tensors of a state dict under the names of their own layout, without OpenAI's three integers."""
    named = unwrapped({name: value for name, value in state.items() if isinstance(value, torch.Tensor)})
    return {name: value for name, value in named.items() if name not in _EXTRA_ENTRIES}


def unwrapped(state: State) -> State:
    """A state dict whose names are freed of what wrappers of the network put into them.

    Prefixes that all names have (`module.`, `_orig_mod.`, `model.`, `net.`, also several in a row) are removed until a
    layout is recognised. Where none is recognised, all names stay as they are.

    >>> list(unwrapped({"module.image_encoder.proj": torch.zeros(1)}))
    ['image_encoder.proj']
    """
    names = [_INSIDE.sub("", name) for name in state]
    while not _recognised(names):
        prefix = next((wrapper for wrapper in _WRAPPERS if all(name.startswith(wrapper) for name in names)), None)
        if prefix is None or not names:
            return state
        names = [name.removeprefix(prefix) for name in names]
    # Two entries that differ in a wrapper alone belong to no known layout.
    return dict(zip(names, state.values(), strict=True)) if len(set(names)) == len(names) else state


def clean(state: dict[str, Any]) -> State:
    """The tensors of a state dict as `tensors` gives them, in float32."""
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors(state).items()}


def layout_of(state: State) -> str | None:
    """The layout of a state dict, recognised by the names of its entries; None: an unknown one."""
    return _recognised(state)


def refuse_nan(state: State, origin: str) -> None:
    """Raise CheckpointError where an entry holds NaN, since every feature would be NaN."""
    broken = [name for name, value in state.items() if not value.is_meta and torch.isnan(value).any()]
    if broken:
        raise CheckpointError(
            f"{origin} holds NaN in {len(broken)} entries (first {broken[0]}): its training had diverged, or it is "
            "damaged; take an earlier checkpoint, or download it again"
        )


def some_names(state: State) -> str:
    """The first names of a state dict, for messages."""
    return f"its entries are {', '.join(list(state)[:3])}{', …' if len(state) > 3 else ''}"


def _recognised(names: Iterable[str]) -> str | None:
    listed = list(names)
    return next((layout for layout, signs in _SIGNS.items() if any(name.startswith(signs) for name in listed)), None)


def to_openai(state: State, origin: str) -> State:
    """CLIP's weights in OpenAI's layout; what is not CLIP stays as it is.

    Args:
        state: transformers' layout, open_clip's (its text tower under `text.` or not) or OpenAI's.
        origin: what to call it in messages.
    Raises: CheckpointError: queries without their keys or values.
    """
    layout = layout_of(state)
    if layout == OPENAI:
        return {name.removeprefix("text."): value for name, value in state.items()}
    return _from_transformers(state, origin) if layout == TRANSFORMERS else state


def _from_transformers(state: State, origin: str) -> State:
    converted = {}
    for name, value in state.items():
        if name.endswith(".position_ids"):  # 0, 1, 2 …, which older versions stored
            continue
        if name in _PROJECTIONS:
            converted[_PROJECTIONS[name]] = value.T
        elif ".q_proj." in name:
            converted[_openai_name(name)] = _joined(state, name, origin)
        elif ".k_proj." not in name and ".v_proj." not in name:
            converted[_openai_name(name)] = value
    return converted


def _openai_name(name: str) -> str:
    for pattern, replacement in _OPENAI_NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def _joined(state: State, name: str, origin: str) -> torch.Tensor:
    """Queries, keys and values of a block as one, (3 W, W) or (3 W,)."""
    try:
        return torch.cat([state[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{origin}: {name} does not go with its keys and values ({error})") from None


def hub_file(folder: Path) -> Path:
    """The weights in a folder of the Hugging Face hub; CheckpointError where there are none."""
    for name in HUB_FILES:
        if is_file(folder / name):
            return folder / name
    raise CheckpointError(f"the folder {folder} has no {', '.join(HUB_FILES)}; give the path of the weight file")


def quick_gelu_beside(path: Path, layout: str | None) -> bool | None:
    """Whether CLIP's weights were trained with QuickGELU, as a file in their folder says.

    The shapes of the weights do not tell it.

    Args:
        path: the weights. The file in their folder is transformers' config.json, open_clip's open_clip_config.json, or
            the .json that `models.convert` writes.
        layout: of the weights.
    Returns: true for QuickGELU, false for GELU, None where no file says it.
    Raises: CheckpointError: the file cannot be read, or names another activation.
    """
    if layout == TRANSFORMERS:
        return _transformers_activation(path.with_name("config.json"))
    quick_gelu = _read_json(path.with_suffix(".json")).get("quick_gelu")
    model = _read_json(path.with_name("open_clip_config.json")).get("model_cfg")
    if quick_gelu is None and isinstance(model, dict):
        quick_gelu = model.get("quick_gelu", False)
    return quick_gelu if isinstance(quick_gelu, bool) else None


def _transformers_activation(file: Path) -> bool | None:
    config = _read_json(file)
    towers: list[dict[str, Any]] = [{}, {}]
    for settings, tower in zip(towers, ("vision", "text"), strict=True):
        for key in (f"{tower}_config", f"{tower}_config_dict"):  # the second, of older versions, wins
            settings.update(config[key] if isinstance(config.get(key), dict) else {})
    if config.get("model_type") != "clip" and not any(towers):
        return None
    activations = {str(settings.get("hidden_act", "quick_gelu")) for settings in towers}
    if len(activations) > 1 or not activations <= _ACTIVATIONS.keys():
        raise CheckpointError(
            f"{file}: hidden_act {' and '.join(sorted(activations))}; both towers must have quick_gelu, or both gelu"
        )
    return _ACTIVATIONS[activations.pop()]


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    if not is_file(file):
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} beside the weights cannot be read: {error}; fix or remove it") from None
    return content if isinstance(content, dict) else {}

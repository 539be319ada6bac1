"""Pretrained weights: the file that a tag, a path or a folder names, fetched where needed, and what is in it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import open_clip

from svllreid.errors import CheckpointError
from svllreid.files import is_file, is_folder, user_path
from svllreid.models.architectures import architecture_of
from svllreid.models.layouts import State, hub_file, layout_of, quick_gelu_beside, tensors, to_openai
from svllreid.models.weight_file import read_state

# Weights that come with the package; `rendered.pretraining` made them.
SHIPPED = {"tiny": {"rendered-people": Path(__file__).with_name("tiny_clip.safetensors")}}


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


def read_weights(name: str, weights: str) -> Weights:
    """The weights that a tag, a file or a folder names.

    Args:
        name: the backbone.
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
        raise CheckpointError(
            f"the pretrained weights {weights!r} are neither a file nor a tag of {name}; {known}",
            settings=("pretrained weights",),
        )
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
            "network once, or give a local file, or random to start without",
            settings=("pretrained weights",),
        ) from None


def uses_quick_gelu(name: str, weights: str = "") -> bool:
    """QuickGELU where name or tag says so; weights without a tag use it if they are tiny or of OpenAI's backbones."""
    if name == "tiny" or architecture_of(name).get("quick_gelu", False):
        return True
    if weights in _tags(name):
        return bool(open_clip.get_pretrained_cfg(name, weights).get("quick_gelu", False))
    return "openai" in _tags(name)

"""Weights of any layout as a file: ReID checkpoints in the published layout, CLIP's weights in OpenAI's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from svllreid.errors import CheckpointError, OutputError
from svllreid.files import atomic_write, write_json
from svllreid.models.checkpoint import describe, read_info
from svllreid.models.clip import check_whole
from svllreid.models.layouts import OPENAI, REID, TRANSFORMERS, State
from svllreid.models.pretrained import read_weights

TORCH, SAFETENSORS = (".pth", ".pt"), ".safetensors"


def convert(source: str, target: Path, name: str) -> str:
    """Write weights to a file, and beside it a .json with what their shapes do not tell.

    Args:
        source: a file, folder or tag, see `read_weights`.
        target: .pth or .pt gets a flat state dict, .safetensors the same as safetensors. Precision stays as it is.
        name: the backbone, whose open_clip tags `source` may be.
    Returns: what was written, in words.
    Raises:
        CheckpointError: another suffix, or a source that cannot be read or is neither.
        OutputError: the file exists already, or cannot be written.
    """
    if target.suffix not in (*TORCH, SAFETENSORS):
        raise CheckpointError(f"{target}: weights are written as .pth, .pt or .safetensors; name a file of these")
    description = target.with_suffix(".json")
    for path in (target, description):
        if path.exists():
            raise OutputError(f"{path} is there already; name another file, or remove it")
    weights = read_weights(name, source)
    about: dict[str, Any] | None
    if weights.layout == REID:
        state, info = published(weights.state), read_info(weights.path)
        about, kind = asdict(info) if info else None, f"a ReID checkpoint in the published layout, {describe(state)}"
    elif weights.layout in (OPENAI, TRANSFORMERS):
        state, about = weights.state, {"quick_gelu": weights.quick_gelu}
        check_whole(state, str(weights.path))
        kind = "CLIP's weights in OpenAI's layout"
    else:
        raise CheckpointError(f"{weights.path} holds neither a ReID checkpoint nor CLIP's weights, in no known layout")
    if about is not None:
        write_json(description, about)  # first: where the weights exist, so does what their shapes do not tell
    try:
        _write(target, state)
    except BaseException:
        description.unlink(missing_ok=True)
        raise
    return kind


def published(state: State) -> State:
    """The entries that published code knows: its SimSiam models have no `text_mlp`."""
    simsiam = any(name.startswith("image_mlp.linear1.") for name in state)
    return {name: value for name, value in state.items() if not (simsiam and name.startswith("text_mlp."))}


def _write(target: Path, state: State) -> None:
    # Cloned: of a tensor that shares memory with a larger one torch writes the larger one, and safetensors refuses.
    state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    with atomic_write(target) as temporary:
        if target.suffix == SAFETENSORS:
            temporary.write_bytes(save(state))
        else:
            torch.save(state, temporary)

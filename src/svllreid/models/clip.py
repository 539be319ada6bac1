"""CLIP's image and text towers, made by open_clip and given their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer

from svllreid.errors import CheckpointError
from svllreid.models.architectures import architecture_of, differences, sizes_of
from svllreid.models.layouts import State, clean, refuse_nan
from svllreid.models.pretrained import Weights, read_weights, uses_quick_gelu


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


def check_whole(state: State, origin: str) -> None:
    """CheckpointError where a state dict in OpenAI's layout is not one whole CLIP model and nothing else."""
    sizes = sizes_of(state, origin)
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
    sizes = sizes_of(state, origin)
    if isinstance(sizes["vision_cfg"]["layers"], list) != isinstance(architecture["vision_cfg"]["layers"], list):
        raise CheckpointError(
            f"{origin} is of another kind of backbone than {name}; name the one it is of", settings=("backbone",)
        )
    if not differences(architecture, sizes):
        return architecture
    sizes["text_cfg"]["heads"] = max(1, sizes["text_cfg"]["width"] // 64)
    return sizes


def _check_same_sizes(architecture: dict[str, Any], state: State, name: str, origin: str) -> None:
    differing = differences(architecture, sizes_of(state, origin))
    if differing:
        raise CheckpointError(
            f"{origin} does not hold {name}: {', '.join(differing)}; name the backbone that it holds",
            settings=("backbone",),
        )


def _load_strictly(clip: open_clip.CLIP, state: State, origin: str) -> None:
    """Load weights into a CLIP model; CheckpointError where an entry is missing, unknown, of another shape or NaN."""
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

"""Checkpoints: flat state dicts under the published names, with a .json beside that says what they are."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from svllreid.errors import CheckpointError
from svllreid.files import write_beside, write_json
from svllreid.models.clip import State, clean, read_state
from svllreid.models.reid import SVLLReID
from svllreid.types import Pid

logger = logging.getLogger(__name__)

CLASSIFIERS = ("classifier.", "classifier_proj.")
TEXT = ("prompt_learner.", "text_encoder.")
HEADS = ("image_mlp.", "text_mlp.")


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint's shapes do not tell.

    Args:
        config: the run's configuration as a YAML tree.
        num_classes, num_cameras, num_views: sizes of the classifiers and of the side information.
        pids: raw identity of each label.
        stage, epoch: how far the training was.
        version: of svllreid.
    """

    config: dict[str, Any]
    num_classes: int
    num_cameras: int
    num_views: int
    pids: list[Pid]
    stage: int
    epoch: int
    version: str


def save_checkpoint(path: Path, model: SVLLReID, info: CheckpointInfo) -> None:
    """Write the state dict, then the .json beside it."""
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    with write_beside(path) as temporary:
        torch.save(state, temporary)
    write_json(path.with_suffix(".json"), asdict(info))


def read_checkpoint(path: str | Path) -> tuple[State, CheckpointInfo | None]:
    """The state dict of a checkpoint (ours or a published one) and its information, where there is any.

    Raises: CheckpointError: not a file, or not a ReID checkpoint.
    """
    path = Path(path).expanduser()
    state = clean(read_state(path))
    if not any(name.startswith("image_encoder.") for name in state):
        kind = "CLIP's own weights: give it as MODEL.PRETRAINED" if "visual.conv1.weight" in state else "something else"
        raise CheckpointError(f"{path} is not a ReID checkpoint (no image_encoder.* entries) but {kind}")
    return state, read_info(path)


def read_info(path: Path) -> CheckpointInfo | None:
    """What the .json beside a checkpoint says; None where there is none, as beside published files."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return None
    try:
        return CheckpointInfo(**json.loads(beside.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{beside}, which belongs to {path.name}, cannot be read: {error}; restore or remove it"
        ) from None


def describe(state: State) -> str:
    """The backbone that the shapes of a checkpoint tell."""
    if "image_encoder.attnpool.positional_embedding" in state:
        blocks = [_count(state, f"image_encoder.layer{stage}.") for stage in (1, 2, 3, 4)]
        return f"a ResNet with {blocks} blocks and {state['image_encoder.conv3.weight'].shape[0]} channels"
    width = state["image_encoder.class_embedding"].shape[0] if "image_encoder.class_embedding" in state else "?"
    layers = _count(state, "image_encoder.transformer.resblocks.")
    positions = state.get("image_encoder.positional_embedding")
    patches = "?" if positions is None else len(positions) - 1
    return f"a ViT of width {width} with {layers} blocks and {patches} patches"


def _count(state: State, prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def fit_checkpoint(model: SVLLReID, state: State, origin: str, skip: Sequence[str] = ()) -> list[str]:
    """Load a state dict into a model, all of it but what is skipped.

    Args:
        model: takes the weights in place, and only if all fit.
        state: entries under the published names.
        origin: what to call it in messages.
        skip: prefixes of entries that may be missing, superfluous or of another shape; they are loaded if they fit.
    Returns: the skipped entries that did not fit.
    Raises: CheckpointError: another backbone, entries missing or of wrong shape, each listed.
    """
    own = model.state_dict()
    optional = tuple(skip)
    wrong = [n for n in state if n in own and own[n].shape != state[n].shape]
    left_out = [n for n in state if n.startswith(optional) and (n not in own or n in wrong)] if optional else []
    missing = [n for n in own if n not in state and not n.startswith(optional or ("\0",))]
    missing = [n for n in missing if not n.endswith("num_batches_tracked")]
    unknown = [n for n in state if n not in own and n not in left_out]
    wrong = [n for n in wrong if n not in left_out]
    if missing or unknown or wrong:
        faults = [f"{n}: {tuple(state[n].shape)} in the file, {tuple(own[n].shape)} in the model" for n in wrong]
        faults += [f"{n}: not in the file" for n in missing] + [f"{n}: not in the model" for n in unknown]
        listed = "\n  ".join(faults[:10]) + (f"\n  and {len(faults) - 10} more" if len(faults) > 10 else "")
        raise CheckpointError(
            f"{origin} holds {describe(state)}, which does not fit the configuration "
            f"({describe(dict(own))}); check {_likely_keys(wrong, missing + unknown)}:\n  {listed}"
        )
    model.load_state_dict({n: value for n, value in state.items() if n not in left_out}, strict=False)
    return left_out


def _likely_keys(wrong: list[str], other: list[str]) -> str:
    keys = []
    if any(n.endswith("positional_embedding") for n in wrong):
        keys += ["INPUT.SIZE_TRAIN", "MODEL.STRIDE_SIZE"]
    if "cv_embed" in wrong + other:
        keys += ["MODEL.SIE_CAMERA", "MODEL.SIE_VIEW"]
    if any(n.startswith(HEADS) for n in wrong + other):
        keys += ["MODEL.USE_SSL", "MODEL.USE_SSL_STAGE1", "MODEL.SSL_TYPE", "MODEL.SSL_HIDDEN_DIM", "MODEL.SSL_OUT_DIM"]
    if any(n.startswith((*CLASSIFIERS, "prompt_learner.cls_ctx")) for n in wrong):
        keys += ["DATASETS.NAMES (other identities)"]
    return ", ".join(keys or ["MODEL.NAME"])

"""Checkpoints: flat state dicts under the published names, and the .json file that describes each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import QuickGELU

from svllreid.errors import CheckpointError
from svllreid.files import atomic_write, is_file, user_path, write_json
from svllreid.models.layouts import OPENAI, TRANSFORMERS, State, clean, layout_of, some_names
from svllreid.models.reid import SVLLReID
from svllreid.models.weight_file import read_state
from svllreid.types import Pid, SideRows

CLASSIFIERS = ("classifier.", "classifier_proj.")
TEXT = ("prompt_learner.", "text_encoder.")
HEADS = ("image_mlp.", "text_mlp.")
PROMPTS = "prompt_learner.cls_ctx"
IDENTITIES = (*CLASSIFIERS, PROMPTS)
POSITIONS = ("image_encoder.positional_embedding", "image_encoder.attnpool.positional_embedding")
SUFFIX = "prompt_learner.token_suffix"
_MOST_ROWS = 10_000_000  # identities, cameras or views; a larger table fits into no memory
# Entries whose sizes are read, and how many dimensions they have.
_DIMENSIONS = {
    **dict.fromkeys(POSITIONS, 2),
    "image_encoder.class_embedding": 1,
    "image_encoder.conv3.weight": 4,
    "classifier.weight": 2,
    "cv_embed": 2,
    SUFFIX: 3,
}


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint's shapes do not tell.

    Args:
        config: the run's configuration as a YAML tree.
        num_classes, num_cameras, num_views: sizes of the classifiers and of the side information.
        pids: raw identity of each label.
        stage, epoch: how far the training was.
        version: of svllreid.
        quick_gelu: whether the transformers use QuickGELU; None, in older files: as the weights they began with.
        cameras, views: the dataset's number of each row of side information; None, in older files: rows count from 0.
        listings: fingerprint of each split of the (first) dataset trained on, see `data.fingerprint`; empty where its
            name says which it is, and in older files.
        prompts: digest of the learned prompts, see `prompts_digest`; empty without prompts, and in older files.
        changes: how `config` came to be, where a run was continued under changed keys: for each change the stage, the
            epochs and steps trained before it, and the keys with their values before and after.
    """

    config: dict[str, Any]
    num_classes: int
    num_cameras: int
    num_views: int
    pids: list[Pid]
    stage: int
    epoch: int
    version: str
    quick_gelu: bool | None = None
    cameras: list[int] | None = None
    views: list[int] | None = None
    listings: dict[str, str] = field(default_factory=dict)
    prompts: str = ""
    changes: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("num_classes", "num_cameras", "num_views"):
            count = getattr(self, name)
            if type(count) is not int or not 1 <= count <= _MOST_ROWS:
                raise ValueError(f"{name} is {count!r}, not a whole number from 1 to {_MOST_ROWS}")
        for name, numbers, rows in (
            ("cameras", self.cameras, self.num_cameras),
            ("views", self.views, self.num_views),
        ):
            if numbers is None:
                continue
            if not (isinstance(numbers, list) and all(isinstance(number, int) for number in numbers)):
                raise ValueError(f"{name} are not whole numbers: {numbers!r}")
            if max(1, len(numbers)) != rows or len(set(numbers)) < len(numbers):
                raise ValueError(f"{name} {numbers} do not fit {rows} rows of side information")
        if not isinstance(self.listings, dict):
            raise ValueError(f"listings are no fingerprints by split: {self.listings!r}")
        for section, key in (("MODEL", "NAME"), ("DATASETS", "NAMES")):
            keys = self.config.get(section) if isinstance(self.config, dict) else None
            if not (isinstance(keys, dict) and key in keys):
                raise ValueError(f"config has no {section}.{key}, as the configuration of every run has")
        if not isinstance(self.pids, list):
            raise ValueError(f"pids are not a list of identities: {self.pids!r}")
        if not (isinstance(self.changes, list) and all(isinstance(change, dict) for change in self.changes)):
            raise ValueError(f"changes are not a list of changes: {self.changes!r}")

    @property
    def side_rows(self) -> SideRows:
        """Which row of the side information belongs to which camera and view."""
        counted = SideRows.counted(self.num_cameras, self.num_views)
        return SideRows(
            counted.cameras if self.cameras is None else tuple(self.cameras),
            counted.views if self.views is None else tuple(self.views),
        )


def prompts_digest(state: State) -> str:
    """SHA-256 of the learned prompts among a model's entries, in hexadecimal; empty where there are none."""
    if PROMPTS not in state:
        return ""
    return hashlib.sha256(state[PROMPTS].detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def save_checkpoint(path: Path, model: SVLLReID, info: CheckpointInfo, state: State | None = None) -> None:
    """Write the .json file of a checkpoint, then its state dict.

    The .json also gets the model's activation (QuickGELU or not) and the digest of its prompts.

    Args:
        path: the .pth file.
        model: what is saved.
        info: what belongs to it.
        state: the model's state dict, where it was gathered from several processes; None takes it from the model.
    """
    entries = model.state_dict() if state is None else state
    state = {name: value.detach().cpu().contiguous() for name, value in entries.items()}
    quick_gelu = any(isinstance(module, QuickGELU) for module in model.modules())
    # The weights are written last: where they exist, the .json exists too.
    write_json(path.with_suffix(".json"), asdict(replace(info, quick_gelu=quick_gelu, prompts=prompts_digest(state))))
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: str | Path) -> tuple[State, CheckpointInfo | None]:
    """The state dict of a checkpoint (ours or a published one) and its information, where there is any.

    Raises: CheckpointError: not a file, or not a ReID checkpoint.
    """
    path = user_path(path)
    state = clean(read_state(path))
    if not any(name.startswith("image_encoder.") for name in state):
        wrong = f"{path} is not a ReID checkpoint (no image_encoder.* entries) but "
        if layout_of(state) in (OPENAI, TRANSFORMERS):
            raise CheckpointError(
                f"{wrong}CLIP's own weights: give it as the pretrained weights of a training",
                settings=("pretrained weights",),
            )
        raise CheckpointError(f"{wrong}something else: {some_names(state)}")
    for name, dimensions in _DIMENSIONS.items():
        if name in state and state[name].dim() != dimensions:
            shape = tuple(state[name].shape)
            raise CheckpointError(f"{path}: {name} has the shape {shape}, not {dimensions} dimensions: it is damaged")
    return state, read_info(path)


def read_info(path: Path) -> CheckpointInfo | None:
    """The content of the .json file of a checkpoint; None where the file does not exist, as for published checkpoints.

    Raises: CheckpointError: the file cannot be read or does not describe a checkpoint.
    """
    beside = path.with_suffix(".json")
    if not is_file(beside):
        return None
    try:
        return CheckpointInfo(**json.loads(beside.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{beside}, which belongs to {path.name}, cannot be read: {error}; restore or remove it"
        ) from None


def describe(state: State) -> str:
    """The backbone of a checkpoint in words, as far as the shapes of its entries tell it."""

    def length(name: str) -> int | str:
        return len(state[name]) if name in state else "?"

    if "image_encoder.attnpool.positional_embedding" in state:
        blocks = [_count(state, f"image_encoder.layer{stage}.") for stage in (1, 2, 3, 4)]
        return f"a ResNet with {blocks} blocks and {length('image_encoder.conv3.weight')} channels"
    width = length("image_encoder.class_embedding")
    layers = _count(state, "image_encoder.transformer.resblocks.")
    positions = state.get("image_encoder.positional_embedding")
    patches = "?" if positions is None else len(positions) - 1
    return f"a ViT of width {width} with {layers} blocks and {patches} patches"


def _count(state: State, prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})

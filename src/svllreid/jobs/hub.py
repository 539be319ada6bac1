"""A trained model uploaded to the Hugging Face hub, with a model card."""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from svllreid.build import Encoder
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import CheckpointError
from svllreid.files import is_file, user_path, write_json, write_text
from svllreid.jobs.model_card import model_card
from svllreid.models.checkpoint import CheckpointInfo, read_checkpoint
from svllreid.models.convert import published
from svllreid.models.hub import CARD, DESCRIPTION, METRICS, WEIGHTS, check_access, upload

# Keys whose values are places on the machine that trained.
PLACES = ("DATASETS.ROOT_DIR", "DATASETS.VERI_VIEWS", "DATALOADER.CACHE_DIR", "TEST.WEIGHT", "OUTPUT_DIR")
# Keys whose values may have a place in them beside a name.
HALF_PLACES = ("DATASETS.NAMES", "DATASETS.TEST", "MODEL.PRETRAINED")


@dataclass(frozen=True)
class Pushed:
    """What was uploaded.

    Args:
        address: of the commit.
        files: names of the files.
        notes: what the user should know of files that were left out.
    """

    address: str
    files: tuple[str, ...]
    notes: tuple[str, ...]


def push_model(repo: str, weights: str | Path, *, new_card: bool = False) -> Pushed:
    """Uploads a checkpoint with its .json file, its metrics and a model card to a repository on the hub.

    The weights are uploaded as safetensors, which hold nothing but numbers. Places on this machine and names of
    identities are left out of the .json file. A card that the repository has already is kept.

    Args:
        repo: `org/name`, an existing repository.
        weights: a checkpoint with its .json file.
        new_card: replace the repository's card.
    Raises:
        CheckpointError: the file is not a checkpoint, or has no .json file.
        HubError: the token is wrong, there is no such repository, or the hub cannot be reached.
    """
    path = user_path(weights)
    state, info = read_checkpoint(path)
    if info is None:
        raise CheckpointError(
            f"{path} has no .json beside it, without which nobody could load it from the hub; give a checkpoint that "
            "svllreid trained, together with that file"
        )
    spec, notes = Encoder.load(path, device="cpu").spec, []  # also checks that the file can be loaded
    metrics, about = _metrics(path.parent / METRICS, spec), _shareable(info)
    if isinstance(metrics, str):
        notes.append(metrics)
        metrics = None
    with_card = new_card or CARD not in check_access(repo)
    if not with_card:
        notes.append(f"{CARD} of the repository is kept; --new-card replaces it")
    with tempfile.TemporaryDirectory(prefix="svllreid-hub-") as temporary:
        folder = Path(temporary)
        files = {name: folder / name for name in (WEIGHTS, DESCRIPTION)}
        save_file({name: value.clone().contiguous() for name, value in published(state).items()}, files[WEIGHTS])
        write_json(files[DESCRIPTION], asdict(about))
        if metrics is not None:
            files[METRICS] = folder / METRICS
            write_json(files[METRICS], metrics)
        if with_card:
            files[CARD] = folder / CARD
            write_text(files[CARD], model_card(repo, about, spec, metrics))
        address = upload(repo, files, f"{about.config['MODEL']['NAME']}, epoch {about.epoch} of stage {about.stage}")
    return Pushed(address, tuple(files), tuple(notes))


def _metrics(file: Path, spec: EmbeddingSpec) -> dict[str, Any] | str | None:
    """The content of a metrics.json to share, why it is left out, or None where there is none."""
    if not is_file(file):
        return None
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        weights = metrics["embedding"]["weights"]
    except (OSError, ValueError, LookupError, TypeError):
        return f"{file} is left out: it does not say of which model it is"
    if weights != spec.weights:
        return f"{file} is left out: it is of another checkpoint of the run"
    return {**metrics, "weight": WEIGHTS, "dataset": _without_place(str(metrics.get("dataset", "")))}


def _shareable(info: CheckpointInfo) -> CheckpointInfo:
    """The content of a .json file without places on this machine, and without identities that have names.

    A row of the classifiers then stands for a number. Nothing that loads or tests a model needs the names.
    """
    config = deepcopy(info.config)
    for key in PLACES:
        *sections, name = key.split(".")
        section = config
        for part in sections:
            section = section.get(part, {})
        section.pop(name, None)
    for key in HALF_PLACES:
        part, name = key.split(".")
        if name in config.get(part, {}):
            config[part][name] = _shareable_value(config[part][name])
    named = any(isinstance(pid, str) for pid in info.pids)
    changes = [{**change, "changed": _shareable_changes(change.get("changed", {}))} for change in info.changes]
    return replace(info, config=config, changes=changes, pids=list(range(len(info.pids))) if named else info.pids)


def _shareable_changes(changed: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Changed keys with their values before and now, without places on this machine."""
    return {
        key: {when: _shareable_value(value) if key in HALF_PLACES else value for when, value in values.items()}
        for key, values in changed.items()
        if key not in PLACES
    }


def _shareable_value(value: Any) -> Any:
    """The name of a dataset or of weights, or a list of names, without their folders.

    >>> _shareable_value(["market1501", "folder:/data/mine"]), _shareable_value("/data/ViT-B-16.pt")
    (['market1501', 'folder'], 'ViT-B-16.pt')
    """
    if isinstance(value, str):
        name = _without_place(value)
        return Path(value).name if "/" in name else name
    return [_shareable_value(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _without_place(entry: str) -> str:
    """A dataset's name without its folder.

    >>> _without_place("folder:/data/mine")
    'folder'
    """
    return entry.partition(":")[0]

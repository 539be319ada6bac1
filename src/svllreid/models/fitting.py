"""Load a checkpoint into a model: all of its weights, or those that training on other identities starts from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from svllreid.errors import CheckpointError
from svllreid.models.checkpoint import HEADS, IDENTITIES, POSITIONS, SUFFIX, TEXT, describe
from svllreid.models.layouts import State, refuse_nan
from svllreid.models.reid import SVLLReID
from svllreid.models.towers import resize_positions


def fit_checkpoint(model: SVLLReID, state: State, origin: str, skip: Sequence[str] = ()) -> list[str]:
    """Load a state dict into a model, all of it but what is skipped.

    Args:
        model: takes the weights in place, and only if all fit.
        state: entries under the published names.
        origin: what to call it in messages.
        skip: prefixes of entries that may be missing, superfluous or of another shape; they are loaded if they fit.
    Returns: the skipped entries that did not fit.
    Raises: CheckpointError: another backbone, entries missing or of wrong shape, each listed; NaN.
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
        settings = _likely_settings(wrong, missing + unknown)
        faults = [f"{n}: {tuple(state[n].shape)} in the file, {tuple(own[n].shape)} in the model" for n in wrong]
        faults += [f"{n}: not in the file" for n in missing] + [f"{n}: not in the model" for n in unknown]
        listed = "\n  ".join(faults[:10]) + (f"\n  and {len(faults) - 10} more" if len(faults) > 10 else "")
        raise CheckpointError(
            f"{origin} holds {describe(state)}, which does not fit the configuration "
            f"({describe(dict(own))}); check the {' and the '.join(settings)}:\n  {listed}",
            settings,
        )
    taken = {n: value for n, value in state.items() if n not in left_out}
    refuse_nan(taken, origin)
    model.load_state_dict(taken, strict=False)
    return left_out


def start_from(model: SVLLReID, state: State, origin: str, grid: tuple[int, int] | None = None) -> str:
    """Load a checkpoint to be trained on: all of it but classifiers and prompts, which belong to its identities.

    Heads and side information are taken where the model's have the same shapes, position embeddings are resized. The
    words around the learned prompts are the checkpoint's.

    Args:
        model: made for the new identities; takes the weights in place, and only if all fit.
        state: the checkpoint.
        origin: what to call it in messages.
        grid: rows and columns of its position embeddings; None: not known.
    Returns: one line that names what is taken, what is left out and what is made anew.
    Raises: CheckpointError: the model needs a text encoder or a grid that the checkpoint lacks; see also
        `fit_checkpoint`.
    """
    own = model.state_dict()
    if SUFFIX in own:
        _check_text(own, state, origin)
    used = {n: v for n, v in state.items() if not n.startswith(IDENTITIES)}
    for prefix in HEADS:  # whole or not at all: parts of SimCLR's and SimSiam's have the same names and shapes
        if _shapes(used, prefix) != _shapes(own, prefix):
            used = {n: v for n, v in used.items() if not n.startswith(prefix)}
    resized = _resize(model, own, used, origin, grid)
    text = () if SUFFIX in own else TEXT
    superfluous = fit_checkpoint(model, used, origin, skip=(*IDENTITIES, *HEADS, "cv_embed", *text))
    taken = used.keys() - set(superfluous)
    parts = {
        "taken": _parts(taken) + ([resized] if resized else []),
        "left out": _parts(state.keys() - taken),
        "made anew": _parts(own.keys() - taken),
    }
    return f"{origin}: " + "; ".join(f"{what} {', '.join(names) or 'nothing'}" for what, names in parts.items())


def _shapes(state: State, prefix: str) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items() if name.startswith(prefix)}


def _parts(names: Iterable[str]) -> list[str]:
    """Names of the modules that entries belong to; entries of the prompts are named in full."""
    named = (name for name in names if not name.endswith("num_batches_tracked"))  # which a file may lack
    return sorted({name if name.startswith(TEXT[0]) else name.partition(".")[0] for name in named})


def _check_text(own: State, state: State, origin: str) -> None:
    """CheckpointError where a checkpoint cannot start a model with prompts: no text encoder, or another noun."""
    if not any(name.startswith("text_encoder.") for name in state):
        raise CheckpointError(
            f"{origin} is an image encoder without text encoder (a one-stage baseline), so there is nothing to learn "
            "prompts with; switch the text stage off, or start from a checkpoint with both",
            settings=("text stage",),
        )
    if SUFFIX in state and _padding(state[SUFFIX]) != _padding(own[SUFFIX]):
        raise CheckpointError(
            f"{origin} has prompts whose noun has another length in tokens than the one set, and only CLIP's own "
            "weights hold other words; set the noun it was trained with",
            settings=("noun",),
        )


def _padding(suffix: torch.Tensor) -> int:
    """How many embeddings at the end of (1, 68, T) are the last one."""
    return int((suffix[0] == suffix[0, -1]).all(dim=1).sum())


def _resize(model: SVLLReID, own: State, state: State, origin: str, grid: tuple[int, int] | None) -> str:
    """Resize the position embeddings in `state`, in place, to the model's grid.

    Returns: what was resized, in words; empty where nothing was.
    """
    target = model.image_encoder.grid
    for name in POSITIONS:
        if name not in state or name not in own or own[name].shape[1:] != state[name].shape[1:]:
            continue  # another backbone, which fitting the weights will explain
        patches = len(state[name]) - 1
        if grid is not None and grid[0] * grid[1] != patches:
            grid = None
        if grid is None and len(own[name]) != len(state[name]):
            raise CheckpointError(
                f"{origin} has position embeddings of {patches} patches, the configuration makes {target[0]} x "
                f"{target[1]}, and no .json beside says how its patches are laid out; set the image size "
                "and the stride with which it was trained",
                settings=("image size", "stride"),
            )
        if grid is not None and grid != target:
            state[name] = resize_positions(state[name], target, grid)
            return f"positions resized from {grid[0]} x {grid[1]} to {target[0]} x {target[1]}"
    return ""


def _likely_settings(wrong: list[str], other: list[str]) -> tuple[str, ...]:
    """The settings that are likely to differ from those of the checkpoint.

    Args:
        wrong: entries of another shape.
        other: entries that are missing, or not in the model.
    """
    settings: list[str] = []
    if any(n.endswith("positional_embedding") for n in wrong):
        settings += ["image size", "stride"]
    if "cv_embed" in wrong + other:
        settings += ["side information"]
    if any(n.startswith(HEADS) for n in wrong + other):
        settings += ["self-supervision", "self-supervision widths"]
    if any(n.startswith(IDENTITIES) for n in wrong):
        settings += ["dataset"]  # of other identities
    return tuple(settings or ["backbone"])

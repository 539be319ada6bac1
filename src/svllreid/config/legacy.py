"""Published configuration trees, whose known faults are fixed, and keys of earlier versions."""

from __future__ import annotations

import ast
import logging
import re
from typing import Any

from svllreid.config.keys import is_names, is_section, is_text
from svllreid.config.schema import Stage2
from svllreid.errors import ConfigError

logger = logging.getLogger(__name__)

# Published keys that nothing here uses, with the values under which they change nothing.
UNUSED: dict[str, tuple[Any, ...]] = {
    "DATALOADER.SAMPLER": ("softmax_triplet",),
    "MODEL.ATT_DROP_RATE": (0.0,),
    "MODEL.COS_LAYER": (False,),
    "MODEL.DIST_TRAIN": (False,),
    "MODEL.DROP_OUT": (0.0,),
    "MODEL.DROP_PATH": (0.0, 0.1),  # CLIP's blocks have none, although the published default is 0.1
    "MODEL.ID_LOSS_TYPE": ("softmax",),
    "MODEL.IF_WITH_CENTER": ("no", False),
    "MODEL.LAST_STRIDE": (1,),
    "MODEL.METRIC_LOSS_TYPE": ("triplet",),
    "MODEL.NECK": ("bnneck",),
    "MODEL.PRETRAIN_CHOICE": ("imagenet",),
    "MODEL.TRANSFORMER_TYPE": ("None", None),
    "TEST.DIST_MAT": ("dist_mat.npy",),
    "TEST.EVAL": (True,),
}
UNUSED_OF_STAGES: dict[str, tuple[Any, ...]] = {
    "CENTER_LOSS_WEIGHT": (0.0005, 0),
    "CENTER_LR": (0.5,),
    "COSINE_MARGIN": (0.5,),
    "COSINE_SCALE": (30,),
    "LARGE_FC_LR": (False,),
    "MOMENTUM": (0.9,),
}
UNUSED |= {f"SOLVER.{stage}.{key}": off for stage in ("STAGE1", "STAGE2") for key, off in UNUSED_OF_STAGES.items()}
UNUSED |= {
    "SOLVER.STAGE1.EVAL_PERIOD": (10,),
    "SOLVER.STAGE1.OPTIMIZER_NAME": ("Adam",),
    "SOLVER.STAGE1.WARMUP_FACTOR": (0.01,),
    "SOLVER.STAGE1.WARMUP_ITERS": (500,),
    "SOLVER.STAGE1.WARMUP_METHOD": ("linear",),
    "SOLVER.STAGE2.LR_MIN": (1.6e-05,),
    "SOLVER.STAGE2.WARMUP_EPOCHS": (5,),
    "SOLVER.STAGE2.WARMUP_LR_INIT": (0.01,),
}
# Replaced by an option of the command line.
REPLACED = {"MODEL.DEVICE": "--device", "MODEL.DEVICE_ID": "--device"}
_NUMBER_AS_TEXT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def fix(tree: dict[str, Any], source: str, one_stage: bool) -> dict[str, Any]:
    """The tree that the schema reads, made from a published one; each fix is logged as a warning.

    Args:
        tree: the tree as a plain YAML reader gives it, with the values of the command line in it.
        source: what to call it in messages.
        one_stage: the file's SOLVER is flat, see `is_flat`.
    Raises: ConfigError: a published key without a use here holds a value that would matter.
    """
    fixed, faults = _fix_section(tree, "")
    solver = fixed.get("SOLVER") or {}
    if one_stage:
        faults.append("a flat SOLVER is the one-stage baseline: its keys go to SOLVER.STAGE2, MODEL.USE_TEXT is false")
        flat = {key: solver.pop(key) for key in list(solver) if key.lower() in FLAT_KEYS}
        solver["STAGE2"] = flat | solver.get("STAGE2", {})
        fixed.setdefault("MODEL", {}).setdefault("USE_TEXT", False)
    model, stage1 = fixed.get("MODEL") or {}, solver.get("STAGE1") or {}
    if "SSL_LOSS_WEIGHT" in stage1 and "USE_SSL" in model and "USE_SSL_STAGE1" not in model:
        faults.append("stage 1's self-supervision had its switch in the source, on: MODEL.USE_SSL_STAGE1 is true")
        model["USE_SSL_STAGE1"] = True
    _drop_unused(fixed, faults)
    if faults:
        logger.warning("%s: fixed:\n  %s", source, "\n  ".join(faults))
    return fixed


FLAT_KEYS = set(Stage2.model_fields) | {key.lower() for key in UNUSED_OF_STAGES} | {
    "lr_min", "warmup_epochs", "warmup_lr_init",
}  # fmt: skip


def is_flat(tree: dict[str, Any]) -> bool:
    """Whether a file's SOLVER is the one-stage baseline's: its keys stand in no stage.

    >>> is_flat({"SOLVER": {"BASE_LR": 0.1}}), is_flat({"SOLVER": {"STAGE1": {"BASE_LR": 0.1}}})
    (True, False)
    """
    solver = tree.get("SOLVER")
    return isinstance(solver, dict) and "STAGE1" not in solver and any(key.lower() in FLAT_KEYS for key in solver)


def _fix_section(tree: dict[str, Any], prefix: str) -> tuple[dict[str, Any], list[str]]:
    fixed: dict[str, Any] = {}
    faults: list[str] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            fixed[key], below = _fix_section(value, f"{name}.")
            faults += below
        elif value is None and is_section(name):
            faults.append(f"{name} is empty: its defaults are used")
        elif is_section(name):
            raise ConfigError(f"{name} is a section of keys, not {value!r}; set one of its keys, such as {name}.KEY")
        elif is_text(name):
            fixed[key] = value
        elif isinstance(value, str) and not is_names(name) and _NUMBER_AS_TEXT.fullmatch(value):
            faults.append(f"{name}: {value!r} read as text is the number {float(value)}")
            fixed[key] = float(value)
        elif isinstance(value, str) and value[:1] == "(" and value[-1:] == ")":
            fixed[key] = _bracketed(value)
            faults.append(f"{name}: {value!r} read as text is {fixed[key]!r}")
        else:
            fixed[key] = value
    return fixed, faults


def _bracketed(value: str) -> Any:
    """What Python's brackets mean: ('a') is 'a', (1, 2) is [1, 2]; bare words are names."""
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        words = [word.strip() for word in value[1:-1].split(",") if word.strip()]
        return words[0] if len(words) == 1 else words
    return list(literal) if isinstance(literal, tuple) else literal


def _drop_unused(tree: dict[str, Any], faults: list[str]) -> None:
    for name, off in UNUSED.items():
        *path, key = name.split(".")
        section = tree
        for part in path:
            section = section.get(part) or {}
        if key not in section:
            continue
        value = section.pop(key)
        if value not in off:
            raise ConfigError(f"{name}: {value!r} is not supported; remove the key, or set it to {off[0]!r}")
    for name, option in REPLACED.items():
        section = tree.get(name.split(".")[0]) or {}
        if section.pop(name.split(".")[1], None) is not None:
            faults.append(f"{name} has no use here: choose with {option}")

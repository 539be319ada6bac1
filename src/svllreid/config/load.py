"""Defaults < YAML file < KEY VALUE overrides, checked, frozen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from svllreid.config.keys import is_section, near_keys
from svllreid.config.legacy import UNUSED, is_flat, mend
from svllreid.config.overrides import override_pairs
from svllreid.config.schema import Config
from svllreid.config.yaml_file import read_tree
from svllreid.data.readers import DATASETS
from svllreid.errors import ConfigError
from svllreid.files import is_file, user_path
from svllreid.types import PERSON

_SHIPPED = Path(__file__).parents[1] / "configs"


def load_config(path: str | Path | None = None, overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """The configuration of a run.

    Args:
        path: YAML file; a name such as `person/vit_svllreid.yml` that is no file here is looked up among the shipped
            ones. None: defaults only.
        overrides: `KEY VALUE` pairs or `KEY=VALUE` words as on the command line, or a mapping of dotted keys.
    Raises: ConfigError: unknown key, wrong type or value, unreadable file; every fault in one line each.
    Example:
        >>> import svllreid
        >>> config = svllreid.load_config("person/tiny_svllreid.yml", ["SOLVER.STAGE2.MAX_EPOCHS", "5"])
        >>> config.model.name, config.solver.stage2.max_epochs
        ('tiny', 5)
    """
    if path is None:
        return from_tree({}, "overrides", overrides)
    return from_tree(_read(_find(path)), str(path), overrides)


def from_tree(
    tree: dict[str, Any], source: str = "configuration", overrides: Iterable[str] | Mapping[str, Any] = ()
) -> Config:
    """The configuration in a plain tree (a YAML or JSON reader's), published faults mended; see `load_config`."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source} holds a {type(tree).__name__}, not a tree of keys such as {{'MODEL': ...}}")
    merged = deepcopy(tree)
    for key, value in override_pairs(overrides):
        _put(merged, key, value)
    tree = mend(merged, source, one_stage=is_flat(tree))
    _fill_derived(tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        raise ConfigError(f"{source}: " + "\n".join(lines)) from None


def _fill_derived(tree: dict[str, Any]) -> None:
    """Defaults that hang on other keys."""
    model, data = tree.setdefault("MODEL", {}), tree.setdefault("DATASETS", {})
    names = data.get("NAMES") or ()
    listed = [str(name).partition(":")[0] for name in (names if isinstance(names, list | tuple) else [names])]
    nouns = {DATASETS[name].noun for name in listed if name in DATASETS} or {PERSON}
    tiny = model.get("NAME") == "tiny"
    for section, key, value in (
        (data, "NOUN", nouns.pop() if len(nouns) == 1 else ""),  # of people and vehicles the user has to choose
        (model, "PRETRAINED", "rendered-people" if tiny else "openai"),
        (model, "SSL_HIDDEN_DIM", 512 if tiny else 4096),
        (model, "SSL_OUT_DIM", 128 if tiny else 256),
        (tree.setdefault("INPUT", {}), "RE_MAX_AREA", 1 / 3 if model.get("USE_TEXT", True) is not False else 1 / 4),
    ):
        if isinstance(section, dict) and section.get(key) in (None, ""):
            section[key] = value


def _find(path: str | Path) -> Path:
    path = user_path(path)
    candidates = [path]
    if not path.is_absolute():
        inner = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
        candidates.append(_SHIPPED / inner)
    for candidate in candidates:
        if is_file(candidate):
            return candidate
    names = sorted(file.relative_to(_SHIPPED).as_posix() for file in _SHIPPED.rglob("*.yml"))
    raise ConfigError(f"no configuration file {path}; shipped ones: {', '.join(names)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    return read_tree(content, str(path))


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[last] = value


def _explain(fault: Any) -> str:
    key = _key_of(fault["loc"])
    if fault["type"] == "extra_forbidden":
        hint = near_keys(key, tuple(UNUSED))
        return f"unknown key {key}" + (
            f"; did you mean {' or '.join(hint)}?" if hint else "; see `svllreid config keys`"
        )
    value = fault["input"]
    if fault["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
        near = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.5)
        hint_text = f"; did you mean {near[0]}?" if near else ""
        return f"{key}: {value!r} is not one of {', '.join(allowed)}{hint_text}"
    return f"{key}: {value!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _key_of(location: tuple[str | int, ...]) -> str:
    """The dotted key at which pydantic met a fault; what it adds below a key, such as the place in a list, is left."""
    key = ""
    for part in location:
        if key and not is_section(key):
            break
        key = f"{key}.{part}".upper() if key else str(part).upper()
    return key

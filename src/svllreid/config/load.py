"""Load a configuration: defaults, over them a YAML file, over it KEY VALUE overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from svllreid.config.fields import Derived, Section
from svllreid.config.keys import is_section, known_keys, near_keys
from svllreid.config.legacy import UNUSED, fix, is_flat
from svllreid.config.overrides import override_pairs
from svllreid.config.schema import Config
from svllreid.config.yaml_file import read_tree
from svllreid.errors import ConfigError
from svllreid.files import is_file, user_path

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
        >>> config = svllreid.load_config("person/vit_svllreid.yml", ["SOLVER.STAGE2.MAX_EPOCHS=30"])
        >>> config.model.name, config.solver.stage2.max_epochs
        ('ViT-B-16', 30)
        >>> svllreid.load_config(overrides={"MODEL.NAM": "tiny"})
        Traceback (most recent call last):
        svllreid.errors.ConfigError: overrides: unknown key MODEL.NAM; did you mean MODEL.NAME?
    """
    if path is None:
        return from_tree({}, "overrides", overrides)
    return from_tree(_read(_find(path)), str(path), overrides)


def from_tree(
    tree: dict[str, Any], source: str = "configuration", overrides: Iterable[str] | Mapping[str, Any] = ()
) -> Config:
    """The configuration in a plain tree, as YAML and JSON readers give it; see `load_config`.

    Known faults of published trees are fixed.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f"{source} holds a {type(tree).__name__}, not a tree of keys such as {{'MODEL': ...}}")
    merged = deepcopy(tree)
    for key, value in override_pairs(overrides):
        _put(merged, key, value)
    tree = fix(merged, source, one_stage=is_flat(tree))
    for key, _ in _derived_keys():
        _remove_null(tree, key)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        raise ConfigError(f"{source}: " + "\n".join(lines)) from None
    for key, rule in _derived_keys():
        config = _derive(config, key.lower().split("."), rule.default(config))
    return config


def _derived_keys() -> Iterator[tuple[str, Derived]]:
    """Each key whose default depends on others, with its mark in the schema."""
    for key, field in known_keys():
        for mark in field.metadata:
            if isinstance(mark, Derived):
                yield key, mark


def _remove_null(tree: dict[str, Any], key: str) -> None:
    """Take a key that is null out of the tree, as if it were not given."""
    *path, last = key.split(".")
    section: Any = tree
    for part in path:
        section = section.get(part) if isinstance(section, dict) else None
    if isinstance(section, dict) and last in section and section[last] is None:
        del section[last]


def _derive(section: Section, path: list[str], value: Any) -> Any:
    """The section with `value` at the place `path` below it, where nothing is given there."""
    name, *below = path
    current = getattr(section, name)
    if below:
        return section.model_copy(update={name: _derive(current, below, value)})
    return section.model_copy(update={name: value}) if current in (None, "") else section


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

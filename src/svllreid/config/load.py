"""Defaults < YAML file < KEY VALUE overrides, checked, frozen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from svllreid.config.legacy import UNUSED, is_flat, is_text, mend
from svllreid.config.schema import Config, Section
from svllreid.errors import ConfigError
from svllreid.types import NOUNS, PERSON

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
_SHIPPED = Path(__file__).parents[1] / "configs"


def load_config(path: str | Path | None = None, overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """The configuration of a run.

    Args:
        path: YAML file; a name such as `person/vit_svllreid.yml` that is no file here is looked up among the shipped
            ones. None: defaults only.
        overrides: `KEY VALUE` pairs or `KEY=VALUE` words as on the command line, or a mapping of dotted keys.
    Raises: ConfigError: unknown key, wrong type or value, unreadable file; every fault in one line each.
    """
    if path is None:
        return from_tree({}, "overrides", overrides)
    return from_tree(_read(_find(path)), str(path), overrides)


def from_tree(
    tree: dict[str, Any], source: str = "configuration", overrides: Iterable[str] | Mapping[str, Any] = ()
) -> Config:
    """The configuration in a plain tree (a YAML or JSON reader's), published faults mended; see `load_config`."""
    merged = deepcopy(tree)
    for key, value in _pairs(overrides):
        _put(merged, key, value)
    tree = mend(merged, source, one_stage=is_flat(tree))
    _fill_derived(tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        raise ConfigError(f"{source}: " + "\n".join(lines)) from None


def known_keys(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its pydantic field, depth first: ('MODEL.NAME', FieldInfo)."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from known_keys(field.annotation, f"{key}.")
        else:
            yield key, field


def _fill_derived(tree: dict[str, Any]) -> None:
    """Defaults that hang on other keys."""
    model, data = tree.setdefault("MODEL", {}), tree.setdefault("DATASETS", {})
    names = data.get("NAMES") or ()
    listed = [str(name).partition(":")[0] for name in ([names] if isinstance(names, str) else names)]
    nouns = {NOUNS.get(name, PERSON) for name in listed} or {PERSON}
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
    path = Path(path).expanduser()
    candidates = [path]
    if not path.is_absolute():
        inner = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
        candidates.append(_SHIPPED / inner)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = sorted(str(file.relative_to(_SHIPPED)) for file in _SHIPPED.rglob("*.yml"))
    raise ConfigError(f"no configuration file {path}; shipped ones: {', '.join(names)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{path} holds a {type(tree).__name__}, not a tree of keys such as MODEL: {{NAME: ViT-B-16}}")
    return tree or {}


def _pairs(overrides: Iterable[str] | Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        yield from overrides.items()
        return
    words = iter(overrides)
    for word in words:
        key, equals, value = word.partition("=")
        if not _KEY.fullmatch(key):
            raise ConfigError(f"{word!r} is not a KEY=VALUE or KEY VALUE pair; a key looks like MODEL.NAME")
        if not equals:
            try:
                value = next(words)
            except StopIteration:
                raise ConfigError(f"{key} has no value; write {key} VALUE or {key}=VALUE") from None
        try:
            yield key, value if is_text(key) else yaml.safe_load(value)
        except yaml.YAMLError:
            yield key, value


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.upper().split(".")
    for part in path:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[last] = value


def _explain(fault: Any) -> str:
    key = ".".join(str(part).upper() for part in fault["loc"] if isinstance(part, str) and part.isidentifier())
    if fault["type"] == "extra_forbidden":
        names = [name for name, _ in known_keys()] + list(UNUSED)
        near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
        same_end = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]]
        hint = (same_end or near)[:2]
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

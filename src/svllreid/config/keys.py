"""Look up dotted keys such as MODEL.NAME in the schema: whether they exist, and what kind of value they take."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any

from svllreid.config.fields import MayChange, Names, Section
from svllreid.config.schema import Config


def known_keys(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its pydantic field, depth first: ('MODEL.NAME', FieldInfo)."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from known_keys(field.annotation, f"{key}.")
        else:
            yield key, field


@cache
def key_names() -> tuple[str, ...]:
    """Every key, in the order of `known_keys`."""
    return tuple(name for name, _ in known_keys())


def is_section(name: str) -> bool:
    """Whether a dotted name is a section of keys, such as MODEL or SOLVER.STAGE1."""
    kind = _type_of(name)
    return isinstance(kind, type) and issubclass(kind, Section)


def is_text(name: str) -> bool:
    """Whether a dotted key holds one text, such as a path, that no reader may take for a number or cut short."""
    return _type_of(name) is str


def is_names(name: str) -> bool:
    """Whether a dotted key holds one text or a list of texts, such as DATASETS.NAMES."""
    return _type_of(name) == Names


def may_change(name: str) -> bool:
    """Whether a dotted key may differ when a run is continued, since it changes nothing that is learned.

    >>> may_change("SOLVER.STAGE2.EVAL_PERIOD"), may_change("SOLVER.STAGE2.BASE_LR")
    (True, False)
    """
    section, _, key = name.rpartition(".")
    kind = _type_of(section) if section else Config
    field = kind.model_fields[key.lower()]
    return kind.all_may_change or any(isinstance(mark, MayChange) for mark in field.metadata)


def near_keys(name: str, others: tuple[str, ...] = ()) -> list[str]:
    """At most two keys that may have been meant by `name`.

    Args:
        name: what was written, in upper case.
        others: further keys that may have been meant.

    >>> near_keys("MODEL.STRIDE")
    ['MODEL.STRIDE_SIZE']
    >>> near_keys("SOLVER.BASE_LR")
    ['SOLVER.STAGE1.BASE_LR', 'SOLVER.STAGE2.BASE_LR']
    """
    names = [*key_names(), *others]
    same_end = [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
    return (same_end or difflib.get_close_matches(name, names, n=1, cutoff=0.5))[:2]


def _type_of(name: str) -> Any:
    """The type of a dotted key in the schema; None for an unknown key."""
    kind: Any = Config
    for key in name.lower().split("."):
        if not (isinstance(kind, type) and issubclass(kind, Section)) or key not in kind.model_fields:
            return None
        kind = kind.model_fields[key].annotation
    return kind

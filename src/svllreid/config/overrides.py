"""Keys and values as words: `KEY VALUE` or `KEY=VALUE`, as on the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from svllreid.config.keys import is_section, key_names, near_keys
from svllreid.config.legacy import FLAT_KEYS, REPLACED, UNUSED
from svllreid.config.yaml_file import read_value
from svllreid.errors import ConfigError

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")

# Files that are given without their key or option, and what is said then.
_FILES = {
    (".yml", ".yaml"): "a configuration file is given as --config-file FILE",
    (".pth", ".pt", ".safetensors"): (
        "weights are given as TEST.WEIGHT FILE to test them, and as MODEL.PRETRAINED FILE to start training from them"
    ),
}


def override_pairs(overrides: Iterable[Any] | Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each key, in upper case, with its value.

    `KEY = VALUE`, `KEY =VALUE` and `KEY= VALUE` mean the same as `KEY=VALUE`. Where the word after a key is a key
    itself, the first one has no value; a value that really is spelled like a key is given as `KEY=VALUE`.

    Args:
        overrides: words, or a mapping of dotted keys to values. A value that is no text stays as it is.
    Raises: ConfigError: words out of step, naming the one where it shows.

    >>> list(override_pairs(["MODEL.NAME", "tiny", "solver.seed=7", "INPUT.SIZE_TRAIN", "[64, 32]"]))
    [('MODEL.NAME', 'tiny'), ('SOLVER.SEED', 7), ('INPUT.SIZE_TRAIN', [64, 32])]
    """
    if isinstance(overrides, str):
        raise ConfigError(
            f"{overrides!r} is one text; give a list of words, such as {overrides.split()!r}, or a mapping"
        )
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            yield str(key).upper(), value
        return
    words, before = list(overrides), ""
    while words:
        key, value = _take_pair(words, before)
        before = f"{key} {value}"
        yield key.upper(), read_value(key, value) if isinstance(value, str) else value


def _take_pair(words: list[Any], before: str) -> tuple[str, Any]:
    """Take a key and its value from the front of the words; messages name the pair `before` them."""
    word = words.pop(0)
    key, equals, value = word.partition("=") if isinstance(word, str) else (repr(word), "", "")
    after = f" after {before}" if before else ""
    for suffixes, advice in _FILES.items():
        if not equals and key.lower().endswith(suffixes):
            raise ConfigError(f"{word!r} stands{after} where a key such as MODEL.NAME is expected; {advice}")
    if not _may_be_key(key):
        raise ConfigError(
            f"{word!r} stands{after} where a key such as MODEL.NAME is expected: words are KEY=VALUE or KEY VALUE "
            "pairs. Look for a key before it without a value, a value too many, or a value whose blanks need quotes"
        )
    if equals and (value or not words or _begins_pair(words[0])):
        return key, value
    if not equals and words and words[0] == "=":
        words.pop(0)
    if not words:
        raise ConfigError(f"{key} has no value; write {key} VALUE or {key}=VALUE")
    if _begins_pair(words[0]):
        raise ConfigError(
            f"{key} has no value: the word after it, {words[0]}, is a key itself; write {key} VALUE or {key}=VALUE "
            f"(and {key}={words[0]} to give that very text)"
        )
    value = words.pop(0)
    return key, value[1:] if isinstance(value, str) and not equals and value[:1] == "=" else value


def _begins_pair(word: Any) -> bool:
    """Whether a word is a key, or a key with its value.

    Without a dot only upper case counts: a folder may well be called output_dir.
    """
    if not isinstance(word, str):
        return False
    key = word.partition("=")[0]
    return (key.upper() if "." in key else key) in _every_key()


@cache
def _every_key() -> frozenset[str]:
    """The keys of the schema and those that published files may also have."""
    return frozenset((*key_names(), *UNUSED, *REPLACED, *(f"SOLVER.{key.upper()}" for key in FLAT_KEYS)))


def _may_be_key(word: str) -> bool:
    """Whether a word is a key, or so near to one that it is better called an unknown key than out of place."""
    if not _KEY.fullmatch(word):
        return False
    name = word.upper()
    ends = {key.rpartition(".")[2] for key in _every_key()}
    known = "." in word or name in ends or is_section(name)
    return known or bool(difflib.get_close_matches(name, [*ends, *near_keys(name)], n=1, cutoff=0.75))

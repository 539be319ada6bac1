"""Read YAML files without losing anything silently, and write them so that people can read them."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import yaml

from svllreid.config.keys import is_names, is_text
from svllreid.errors import ConfigError

MAX_ENTRIES = 100_000
_STR, _NULL, _MERGE, _DATE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "merge", "timestamp"))
# What PyYAML raises; the last ones on deep nesting and on values that do not fit the type they are tagged with.
_UNREADABLE = (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe reader without dates: no key takes one, and a folder may be called 2024-01-05."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _DATE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_tree(text: str | bytes, source: str) -> dict[str, Any]:
    """The tree of keys in a YAML text, its keys in upper case; the values of keys that take text stay as written.

    Args:
        text: the file's content, bytes in UTF-8 or UTF-16; an empty one holds no keys.
        source: what to call it in messages.
    Raises: ConfigError: no YAML, no tree of keys, a key given twice (with the lines of both), or one that is no text.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        if isinstance(root, yaml.MappingNode):
            _Checks(source).check(root)
        tree = loader.construct_document(root)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"{source} cannot be read as YAML: {reason}; text that holds ': ' or ' #', or begins with a character such "
            "as [ { * & or %, needs quotes"
        ) from None
    if not isinstance(tree, dict):
        kind = type(tree).__name__
        raise ConfigError(f"{source} holds a {kind}, not a tree of keys such as MODEL: {{NAME: ViT-B-16}}")
    return tree


def read_value(name: str, word: str) -> Any:
    """The value of a key as a word of the command line: text as it is written, anything else as YAML reads it.

    Keys that take one text or several, such as DATASETS.NAMES, take a word in square brackets for a list: its items are
    separated by commas, and one with a comma in it stands in quotes.

    Args:
        name: the dotted key.
        word: what is given as its value.

    >>> read_value("MODEL.SIE_COE", "1.5"), read_value("OUTPUT_DIR", "1.5")
    (1.5, '1.5')
    >>> read_value("DATASETS.NAMES", "[market1501, msmt17]")
    ['market1501', 'msmt17']
    """
    if is_text(name):
        return word
    if is_names(name):
        bracketed = word.strip()
        return _items(bracketed[1:-1]) if bracketed[:1] == "[" and bracketed[-1:] == "]" else word
    if re.search(r"(^|\s)#", word):  # YAML would take the rest for a comment, and no such key holds this character
        return word
    try:
        return _Loader(word).get_single_data()
    except _UNREADABLE:
        return word  # which the schema then refuses, naming the key


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, with Unicode's line ends spelled out: as it writes them, it reads them as blanks."""


def _write_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if set(text) & {"\x85", "\u2028", "\u2029"} else None
    return dumper.represent_scalar(_STR, text, style=style)


_Dumper.add_representer(str, _write_text)


def dump_tree(tree: dict[str, Any]) -> str:
    """A tree as YAML, its keys in their order and text of any language readable."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _items(text: str) -> list[str]:
    """Items separated by commas; quotes around an item are YAML's, and where YAML cannot read them belong to it."""
    items = []
    for match in re.finditer(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,]*?)\s*(,|$)""", text):
        item, end = match.groups()
        if item or end:
            quoted = item[:1] in ("'", '"') and item[-1:] == item[:1]
            try:
                items.append(str(yaml.safe_load(item)) if quoted else item)
            except _UNREADABLE:
                items.append(item)
        if not end:
            break
    return items


class _Checks:
    """Looks through the nodes of a YAML text before they become values.

    Keys become upper-case text, and plain words under keys that take text become text: 007 stays 007, `no` stays `no`.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.sizes: dict[int, int] = {}
        self.open: set[int] = set()
        self.faults: list[str] = []

    def check(self, root: yaml.MappingNode) -> None:
        """Prepare the nodes in place; ConfigError with a line for each fault."""
        entries = self._size(root, "")
        if entries > MAX_ENTRIES:
            self.faults.append(f"its anchors unfold to {entries} entries, and no configuration has that many")
        if self.faults:
            raise ConfigError(f"{self.source}: " + "\n".join(self.faults))

    def _size(self, node: yaml.Node, name: str) -> int:
        """How many entries a node unfolds to, once looked through; `name` is the dotted key it stands under."""
        if id(node) in self.open:
            self.faults.append(
                f"{name} refers to the anchor of line {node.start_mark.line + 1}, which contains it; write its keys out"
            )
            return 1
        if id(node) not in self.sizes:
            self.open.add(id(node))
            if isinstance(node, yaml.MappingNode):
                size = self._mapping(node, name)
            elif isinstance(node, yaml.SequenceNode):
                size = sum(self._size(item, name) for item in node.value)
            else:
                size = 0
                if node.tag != _NULL and (is_text(name) or is_names(name)):
                    node.tag = _STR
            self.sizes[id(node)] = 1 + size
            self.open.discard(id(node))
        return self.sizes[id(node)]

    def _mapping(self, node: yaml.MappingNode, name: str) -> int:
        lines: defaultdict[str, list[int]] = defaultdict(list)
        size = 0
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.faults.append(f"line {line}: a key is a word such as MODEL, not a list or a tree")
                continue
            below = name
            if key.tag != _MERGE:
                key.tag, key.value = _STR, key.value.upper()
                below = f"{name}.{key.value}" if name else key.value
            lines[below if key.tag != _MERGE else f"<< of {name or 'the file'}"].append(line)
            size += self._size(value, below)
        for key, places in lines.items():
            if len(places) > 1:
                listed = ", ".join(map(str, places[:-1]))
                self.faults.append(
                    f"{key} is given {'twice' if len(places) == 2 else f'{len(places)} times'}, in lines {listed} and "
                    f"{places[-1]}, and only the last would count; keep one of them"
                )
        return size

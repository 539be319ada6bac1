"""Configurations: YAML trees with odd keys, values, anchors and tags, damaged files, and KEY VALUE words."""

import random

import pytest
import yaml

from svllreid import load_config
from svllreid.config import Config, dump_tree, known_keys
from svllreid.config.load import _SHIPPED

KEYS = [name for name, _ in known_keys()]
SECTIONS = sorted({name.rpartition(".")[0] for name in KEYS} - {""})
WORDS = [
    "", "~", "null", "true", "off", "yes", "0", "1", "-1", "007", "1e-6", "1e400", "-.inf", ".nan", "0x1F", "0b11",
    "1_000", "12:30:45", "2024-01-05", "[]", "{}", "[1, 2]", "[32, 16]", "(1, 2)", "('a')", "(", "[", "{", "]", "- a",
    "a: b", "#", "a #b", "'", '"', '"\\x00"', '"\\ud800"', "'a", "&a b", "*a", "!!python/object/apply:os.system [ls]",
    "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!float x", "!!int 1.5", "!!bool x", "!!timestamp x", "!x y",
    "<<", "%", "@", "`", "|", ">", "? a", "---", "...", "--- a\n--- b", "\t", "ä", "人", "\u202e", "\ufeff", "\x85",
    "a\u2028b", "Gr\udcf6", "\ud800", "[', a]",
    "None", "market1501", "[market1501, veri]", "folder:/data/mine", "ViT-B-16", "tiny", "on", "SIMCLR", "1" * 400,
    "9" * 5000, "a" * 70000, "../../etc/passwd", "~/x", "\\", "${HOME}", "{{x}}", "=", "=1", "32", "16-mixed", "tf32",
    "[[1], [2]]", "[1, a]", "[.nan, 1, 1]", "[1e999, 1]", "{a: {b: {c: d}}}", "1e-06", "+1", ".5", "5.", "1,5",
]  # fmt: skip
TEXTS = [file.read_bytes() for file in sorted(_SHIPPED.rglob("*.yml"))]
SIZES = [pytest.param(60, id="few"), pytest.param(2500, marks=pytest.mark.slow, id="many")]


def odd_value(draw, depth=0):
    """A YAML value in flow style: a word, a list or a mapping of such."""
    kind = draw.random()
    if depth > 3 or kind < 0.7:
        return draw.choice(WORDS)
    items = [odd_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind < 0.85:
        return f"[{', '.join(items)}]"
    return "{" + ", ".join(f"{odd_key(draw)}: {item}" for item in items) + "}"


def odd_key(draw):
    """The name of a key or section, or one that is near it or nothing like it."""
    name = draw.choice([*KEYS, *SECTIONS]).rpartition(".")[2]
    kind = draw.random()
    if kind < 0.7:
        return name
    if kind < 0.8:
        return name.lower()
    if kind < 0.9:
        place = draw.randrange(len(name))
        return name[:place] + draw.choice("AX_.:?") + name[place + 1 :]
    return draw.choice(WORDS)


def odd_tree(draw):
    """A configuration in YAML, mostly of known keys, with anchors, merges, tags and values of all sorts."""
    lines = []
    for section in draw.sample(SECTIONS, draw.randrange(len(SECTIONS))):
        below = [key.rpartition(".")[2] for key in KEYS if key.rpartition(".")[0] == section]
        lines += [f"{'  ' * depth}{part}:" for depth, part in enumerate(section.split("."))]
        indent = "  " * (1 + section.count("."))
        if draw.random() < 0.1:
            lines[-1] += f" {draw.choice(['&a', '&b', '*a', '!!map', '!!seq', '!!str', '!!python/name:os.system'])}"
        if draw.random() < 0.05:
            lines.append(f"{indent}<<: {draw.choice(['*a', '*b', '[*a, *b]', '{NAME: x}', '1'])}")
        for _ in range(draw.randrange(4)):
            key = draw.choice(below) if draw.random() < 0.9 else odd_key(draw)
            lines.append(f"{indent}{key}: {odd_value(draw)}")
    return "\n".join(lines)


def damaged(draw, content):
    """Bytes cut, flipped, doubled, swapped or written anew, or the whole text in another encoding."""
    content, kind = bytearray(content), draw.randrange(7)
    place, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        return bytes(content[:place] + content[end:])
    if kind == 2:
        return bytes(content[:end] + content[place:])
    if kind == 3:
        encoding = draw.choice(["utf-16", "utf-32", "utf-8-sig", "utf-16-be", "cp037"])
        return content.decode("utf-8", "replace").encode(encoding, "replace")
    if kind == 4:
        text = content.decode("utf-8", "replace").split("\n")
        draw.shuffle(text)
        return "\n".join(text).encode()
    for _ in range(draw.randrange(1, 6)):
        if content:
            content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def check_configuration(config):
    """A configuration that was read is written and read again as itself."""
    assert isinstance(config, Config)
    again = yaml.safe_load(dump_tree(config.to_yaml_tree()))
    assert again == config.to_yaml_tree()


@pytest.mark.parametrize("count", SIZES)
def test_files(count, campaign, tmp_path):
    file, written = tmp_path / "config.yml", tmp_path / "written.yml"
    with campaign("configuration files", memory=256 << 20) as run:
        for number in range(count):
            draw = random.Random(f"configuration {number}")
            content = odd_tree(draw).encode("utf-8", "surrogatepass")
            if number % 3 == 0:
                content = draw.choice(TEXTS)
            if number % 3 != 1:
                content = damaged(draw, content)
            file.write_bytes(content)
            with run.attempt(f"file {number}, {content[:60]!r}"):
                config = load_config(file)
                check_configuration(config)
                written.write_text(dump_tree(config.to_yaml_tree()), "utf-8")
                assert load_config(written) == config


@pytest.mark.parametrize("count", SIZES)
def test_words(count, campaign):
    with campaign("KEY VALUE words", memory=256 << 20) as run:
        for number in range(count):
            draw = random.Random(f"words {number}")
            words = []
            for _ in range(draw.randrange(5)):
                key = draw.choice(KEYS) if draw.random() < 0.9 else odd_key(draw)
                value = odd_value(draw)
                words += draw.choice([[key, value], [f"{key}={value}"], [key, "=", value], [key], [f"{key}=", value]])
            with run.attempt(f"words {number}, {words!r:.300}"):
                check_configuration(load_config(None, words))

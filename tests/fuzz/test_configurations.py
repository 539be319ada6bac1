"""Configurations: YAML trees with odd keys, values, anchors and tags, damaged files, and KEY VALUE words."""

import random

import pytest
import yaml
from odd_settings import KEYS, SECTIONS, odd_key, odd_value

from svllreid import load_config
from svllreid.config import Config, dump_tree
from svllreid.config.load import _SHIPPED

TEXTS = [file.read_bytes() for file in sorted(_SHIPPED.rglob("*.yml"))]
SIZES = [pytest.param(60, id="few"), pytest.param(2500, marks=pytest.mark.slow, id="many")]


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

"""The keys and options that the command line adds to the errors of the packages below the configuration."""

import ast
import sys
from pathlib import Path

import pytest
import typer

import svllreid
from svllreid.cli.main import app, run
from svllreid.config.hints import SETTINGS, with_keys
from svllreid.config.keys import key_names
from svllreid.errors import ConfigError

SOURCE = Path(svllreid.__file__).parent


def options(command):
    """The options of a command and of those below it."""
    for parameter in command.params:
        yield from parameter.opts
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


def test_every_key_and_option_exists():
    known = {*key_names(), *options(typer.main.get_command(app))}
    assert {key for keys in SETTINGS.values() for key in keys} <= known
    assert "--fresh" in known and "--nothing" not in known


def errors_of(tree):
    """The calls in a module that make an error, such as ConfigError(...)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")).endswith("Error"):
            yield node


def named_settings(tree):
    """The settings that the errors of a module name literally."""
    for call in errors_of(tree):
        given = [keyword.value for keyword in call.keywords if keyword.arg == "settings"] + call.args[1:2]
        for node in (node for value in given for node in ast.walk(value)):
            if isinstance(node, ast.Constant):
                yield node.value


def test_settings_are_found_in_the_source():
    source = (
        'raise a.ConfigError(f"{x}", settings=("one", "two"))\nDataError("x", ("three",) if y else ())\nf("x", "y")'
    )
    assert list(named_settings(ast.parse(source))) == ["one", "two", "three"]


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_every_setting_that_an_error_names_has_its_keys(file):
    assert set(named_settings(ast.parse(file.read_text(encoding="utf-8")))) <= SETTINGS.keys()


def test_keys_stand_behind_the_message():
    assert with_keys(ConfigError("no")) == "no"
    assert with_keys(ConfigError("no", settings=("noun", "starting over"))) == "no (DATASETS.NOUN, --fresh)"


def test_the_command_line_adds_the_keys(monkeypatch, capsys, tmp_path):
    words = ["convert", "openai", "-o", str(tmp_path / "x.pt"), "MODEL.NAME", "ViT-B-61"]
    monkeypatch.setattr(sys, "argv", ["svllreid", *words])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("svllreid: unknown backbone 'ViT-B-61'") and message.endswith(" (MODEL.NAME)")

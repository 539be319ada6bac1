"""The keys and options that the command line adds to the errors of the packages below the configuration."""

import ast
import sys
from pathlib import Path

import pytest
import typer

import svllreid
from svllreid.cli.main import app, run, takes
from svllreid.config.hints import SETTINGS, with_keys
from svllreid.config.keys import key_names
from svllreid.errors import ConfigError, ImageError, OutputError

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


def run_to_its_error(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["svllreid", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 2
    return capsys.readouterr().err.strip()


def test_only_options_of_the_command_are_advised(monkeypatch, capsys, tmp_path):
    for name in ("query/a/a_c1.jpg", "gallery/a/a_c2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"no picture")
    message = run_to_its_error(monkeypatch, capsys, "data", "describe", "folder", tmp_path)
    assert message.endswith("; restore it")  # the command leaves no image out
    message = run_to_its_error(monkeypatch, capsys, "data", "describe", "folders", tmp_path)
    assert "did you mean folder?" in message and "DATASETS.NAMES" not in message
    unreadable = ImageError("a.jpg cannot be read; restore it", settings=("unreadable images",))
    unwritable = OutputError("it could not be written", settings=("output folder",))
    for command, advice, place in (
        (["train"], ", or leave such images out (--skip-unreadable)", " (OUTPUT_DIR)"),
        (["embed"], ", or leave such images out (--skip-unreadable)", " (--output)"),
        (["verify"], "", ""),
        (["calibrate"], ", or leave such images out (--skip-unreadable)", " (--output)"),
        (["gallery", "export"], "", " (--output)"),
    ):
        has = takes(command)
        assert with_keys(unreadable, has) == f"{unreadable}{advice}"
        assert with_keys(unwritable, has) == f"{unwritable}{place}"

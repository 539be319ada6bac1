"""svllreid convert, and the commands of docs/weights.md."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file

from svllreid import build_model, load_config
from svllreid.cli.main import app, run
from svllreid.models.clip import load_clip

DOCS = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")


@pytest.fixture
def cli(monkeypatch, capsys):
    """Exit code, output and messages of a command, in this process."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["svllreid", "convert", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            run()
        return (end.value.code, *capsys.readouterr())

    return call


def test_a_checkpoint(cli, small_config, tmp_path):
    state = build_model(small_config(), num_classes=3, num_cameras=2).state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "a.pth")
    code, out, err = cli(tmp_path / "a.pth", "-o", tmp_path / "new" / "b.safetensors")
    assert code == 0, err
    published = "a ReID checkpoint in the published layout, a ViT of width 256 with 6 blocks and 2 patches"
    assert out == f"{tmp_path / 'new' / 'b.safetensors'}: {published}\n"
    written = load_file(tmp_path / "new" / "b.safetensors")
    assert written.keys() == state.keys() and all(torch.equal(written[name], state[name]) for name in state)


def test_a_tag_of_the_named_model(cli, tmp_path, monkeypatch):
    torch.save(load_clip("tiny", "random").text.state_dict(), tmp_path / "fetched.bin")
    asked = []
    monkeypatch.setattr(
        "open_clip.download_pretrained", lambda config: asked.append(config) or tmp_path / "fetched.bin"
    )
    (tmp_path / "rn50.yml").write_text("MODEL:\n  NAME: RN50\n")
    for number, words in enumerate((["MODEL.NAME", "RN50"], ["--config-file", tmp_path / "rn50.yml"])):
        code, out, err = cli("cc12m", "--output", tmp_path / f"{number}.pt", *words)
        assert code == 0 and out.endswith(": CLIP's weights in OpenAI's layout\n"), err
        assert json.loads((tmp_path / f"{number}.json").read_text()) == {"quick_gelu": True}
    assert len(asked) == 2


def test_mistakes_are_one_message_and_exit_2(cli, tmp_path):
    (tmp_path / "notes.pth").write_text("hello")
    for words, expected in (
        ([tmp_path / "notes.pth", "-o", tmp_path / "b.onnx"], ".pth, .pt or .safetensors"),
        ([tmp_path / "notes.pth", "-o", tmp_path / "b.pth"], "notes.pth is not a readable weight file"),
        ([tmp_path / "none.pth", "-o", tmp_path / "b.pth"], "neither a file nor a tag of ViT-B-16"),
        ([tmp_path / "notes.pth", "-o", tmp_path / "notes.pth"], "notes.pth is there already"),
        ([tmp_path / "notes.pth"], "'--output'"),
    ):
        code, _, err = cli(*words)
        assert code == 2 and expected in err and "Traceback" not in err


COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", DOCS, re.S) for line in block.splitlines() if line.strip()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_documentation_parse(command):
    name, *words = shlex.split(command)[1:]
    parsed = typer.main.get_command(app).commands[name].make_context(name, words)
    load_config(parsed.params["config_file"], parsed.params["overrides"] or ())


def test_the_documentation_has_every_source():
    assert {shlex.split(command)[1] for command in COMMANDS} == {"train", "test", "convert"}

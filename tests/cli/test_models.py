"""`svllreid models`, the commands that it prints, and docs/models.md."""

import json
import re
import shlex
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml

from svllreid import build_model, load_config
from svllreid.cli.main import run
from svllreid.jobs.published_models import shell_command
from svllreid.models import published
from svllreid.models.download import PAGE, cached
from svllreid.models.published import catalogue, find

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Exit code, output and messages of a command; the cache is a folder of the test."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("SVLLREID_CACHE", str(tmp_path / "cache"))

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["svllreid", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            run()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A folder, and the address on loopback that serves it."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/{{name}}.pth"
        server.shutdown()


@pytest.mark.parametrize("words", [(), ("list",), ("get",)])
def test_help_teaches(cli, words):
    code, out, _ = cli("models", *words, "--help")
    assert code == 0 and "Usage:" in out and len(out.splitlines()) > 8


def test_list(cli, tmp_path):
    (tmp_path / "cache").mkdir()
    cached(find("clipreid-vit-veri")).write_text("")
    code, out, _ = cli("models", "list")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert code == 0 and {model.name for model in catalogue()} <= set(rows)
    assert rows["clipreid-vit-sie-olp-msmt17"] == ["msmt17", "75.8", "89.7", "published"]
    assert rows["svllreid-vit-veri"] == ["veri", "not", "published"]
    assert rows["clipreid-vit-veri"] == ["veri", "83.3", "97.4", "in", "cache"]
    assert "CLIP-ReID's baseline, RN50" in out


def test_the_printed_command_tests_what_was_fetched(cli, mirror, market, small_config, monkeypatch, tmp_path):
    folder, url = mirror
    model = replace(
        find("clipreid-vit-sie-olp-market1501"),
        name="tiny",
        backbone="tiny",
        config=str(tmp_path / "tiny.yml"),
        size=(32, 16),
    )
    monkeypatch.setattr(published, "catalogue", lambda: (model,))
    tree = small_config({"MODEL.SIE_CAMERA": False}).to_yaml_tree()
    Path(model.config).write_text(yaml.safe_dump(tree))
    trained = small_config({"MODEL.STRIDE_SIZE": [12, 12]})
    state = build_model(trained, num_classes=3, num_cameras=2).state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, folder / "tiny.pth")

    code, out, err = cli("models", "get", "tiny", "--url", url)
    assert code == 0, err
    first, _, command = out.splitlines()
    path = tmp_path / "cache" / "tiny.pth"
    assert first == f"{path} holds a ViT of width 256 with 6 blocks and 2 patches."
    assert "MODEL.SIE_CAMERA true" in command and "MODEL.STRIDE_SIZE '[12, 12]'" in command
    code, out, _ = cli("models", "get", "tiny", "--url", "http://127.0.0.1:9/nothing")
    assert code == 0 and out.splitlines()[0].startswith(f"{path} is already there") and out.splitlines()[2] == command

    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(market)
    code, out, err = cli(*shlex.split(command)[1:])
    assert code == 0, err
    metrics = json.loads((tmp_path / "outputs" / "tiny" / "metrics.json").read_text())
    assert (metrics["num_queries"], metrics["num_gallery"]) == (8, 16) and 0 < metrics["mAP"] <= 1
    assert [file.name for file in path.parent.iterdir()] == ["tiny.pth"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["svllreid-vit-market"], "nearest: svllreid-vit-market1501"),
        (["svllreid-vit-veri"], "has no link for veri"),
        (["svllreid-vit-market1501", "--url", "http://127.0.0.1:9/{id}"], "the same command again"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(cli, monkeypatch, words, expected):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    code, _, err = cli("models", "get", *words)
    assert code == 2 and expected in err and "Traceback" not in err


def row(model):
    """A line of the table in docs/models.md."""
    reported = [f"{value:.1f}" for value in model.reported] if model.reported else ["", ""]
    source = f"[{model.source}](https://arxiv.org/abs/{model.source.partition(':')[2]})" if model.source else ""
    link = f"[file]({PAGE.format(id=model.drive_id)})" if model.drive_id else "not published"
    return (
        "| "
        + " | ".join([f"`{model.name}`", model.method, model.dataset, model.backbone, *reported, source, link])
        + " |"
    )


def test_the_table_of_the_documentation_is_the_catalogue():
    table = [re.sub(r" +", " ", line) for line in DOCS.splitlines() if line.startswith("| `")]
    assert table == [re.sub(r" +", " ", row(model)) for model in catalogue()]


COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", DOCS, re.S)
    for line in block.splitlines()
    if line.startswith("svllreid test")
]


def test_the_documentation_has_a_command_for_every_dataset_and_configuration():
    weights = {f"~/.cache/svllreid/{model.name}.pth": model for model in catalogue()}
    models = {tuple(shlex.split(shell_command(model, weight))): model for weight, model in weights.items()}
    printed = [models[tuple(shlex.split(command))] for command in COMMANDS]
    assert all(model.drive_id for model in printed)
    assert {model.dataset for model in printed} == {model.dataset for model in catalogue()}
    named = set(re.findall(r"`((?:vit|rn50)_\w+\.yml)`", DOCS))
    assert {Path(model.config).name for model in catalogue()} == named


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_documentation_parse(command):
    words = shlex.split(command)
    assert words[:3] == ["svllreid", "test", "--config-file"]
    config = load_config(words[3], words[4:])
    model = find(Path(config.test.weight).stem)
    assert (config.datasets.names, config.model.name) == (model.dataset, model.backbone)

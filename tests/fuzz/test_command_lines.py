"""Words of command lines: every subcommand with its options and arguments, right, odd, missing, misspelled, swapped."""

import random
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
import uvicorn
from campaign import snapshot
from command_line import call, check_call
from odd_settings import KEYS, odd_key, odd_value
from typer.main import get_command

from svllreid.cli.main import app
from svllreid.jobs import benching, demo, prediction
from svllreid.models import download
from svllreid.rendered import pretraining

pytestmark = pytest.mark.slow
ODD = (
    "", " ", "-", "--", "-x", "--help", "0", "-1", "1", "2", "1.5", "1e9", "9" * 30, "x", "true", "cpu", "cuda:7",
    "a b", "人", "Gr\udcf6", "\udcff", "=", "A=B", "[", "nowhere", "nowhere/x.pth", "x" * 300, "~nobody/x", ".",
    "/dev/null", "/dev/null/x", "/proc/x", "market1501", "folder", "manifest", "veri", "VehicleID", "random",
    "openai", "%s", "{0}", "\x1b[31m", "*", "-k", "-oX", "--fresh", "--no-such-option", "svllreid-vit-market1501",
)  # fmt: skip


def leaves(command, path=()):
    """Every subcommand with its words, such as (data, check)."""
    below = getattr(command, "commands", None)
    if below is None:
        return [(path, command)]
    return [leaf for name, found in below.items() for leaf in leaves(found, (*path, name))]


COMMANDS = leaves(get_command(app))


@pytest.fixture
def no_long_work(monkeypatch):
    """No network, no processes, no compiling, no rendering of hundreds of people: what a word could start for hours."""

    def offline(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    monkeypatch.setattr(download, "_download", offline_download)
    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda *_: lambda *_: None)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    monkeypatch.setattr(benching, "measure_step", lambda work, step, size, *_: benching.Measured(work, size, 1.0, size))
    for stage in ("stage1", "stage2", "test"):
        monkeypatch.setattr(benching, f"{stage}_step", lambda *_: None)
    monkeypatch.setattr(prediction._Predictor, "predict", lambda self: prediction.Prediction((), None, 1))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: demo.Demonstration({}, "metrics.json", "ranklist.png", None))
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    scores = {"retrieval_full": 1, "retrieval_wordings": 1, "probes": {}, "reid_mAP": 1}
    monkeypatch.setattr(pretraining, "pretrain", lambda *_, **__: scores)


def offline_download(*_, **__):
    raise download.CheckpointError("the network is unreachable; connect to it")


@pytest.fixture
def world(run_folder, market, tmp_path, monkeypatch):
    """A folder to work in with a trained run, data, features and other files; its path and those of the files."""
    folder = tmp_path / "world"
    shutil.copytree(run_folder, folder / "run")
    shutil.copytree(market, folder / "data")
    (folder / "notes.txt").write_text("hello")
    (folder / "table.csv").write_text("path,pid,split\n")
    (folder / "mine.yml").write_text("MODEL: {NAME: tiny}\n")
    (folder / "empty").mkdir()
    shutil.copy(folder / "run/tiny_1.pth", folder / "alone.pth")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SVLLREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    ended = call(
        ["test", "TEST.WEIGHT", "run/tiny_1.pth", "OUTPUT_DIR", "tested", "--save-features", "--device", "cpu"]
    )
    assert ended.code == 0, ended.messages
    # Beside the folder whose files are compared: opening a gallery writes to it, whatever becomes of the command.
    gallery = ["--gallery", "../people.db", "--weights", "run/tiny_1.pth", "--device", "cpu"]
    for words in (["gallery", "create"], ["gallery", "add", "data"]):
        assert call([*words, *gallery]).code == 0
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".jpg"]
    return folder, sorted(files) + sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))[:2]


def value_of(draw, parameter, files):
    """A value for an option or argument: a file, an odd word, or one of the kind that is asked for."""
    usual = {
        "config_file": ("mine.yml", "person/vit_svllreid.yml", "veri/rn50_base.yml", draw.choice(files)),
        "device": ("cpu", "auto", "cuda", "mps", "cpu:0"),
        "name": ("market1501", "folder", "manifest", "veri", "svllreid-vit-market1501", "cuhk03_labelled"),
        "output": (
            *(f"new{draw.randrange(99)}{end}" for end in ("/a.pth", ".safetensors", ".onnx", ".npz", ".parquet")),
            *files,
        ),
        **dict.fromkeys(("folder", "sheet"), (f"new{draw.randrange(99)}/a", "sheet.png", *files)),
        "weights": ("run/tiny_1.pth", "alone.pth", *files),
        "uri": (*["../people.db"] * 6, "new.db", "http://127.0.0.1:9", draw.choice(files)),
        "images": ("data", *files),
        "whole": ("market1501", "msmt17", "vehicleid", "x"),
        **dict.fromkeys(("root", "source", "features", "stage1_weights"), (*files, "data", "data")),
        **dict.fromkeys(("first", "second", "calibration"), (*files, "data")),
        **dict.fromkeys(("identities", "cameras"), ("0", "1", "2", "3", "-1", "x", "2.5")),  # a large one takes hours
    }
    if draw.random() < 0.25 and parameter.name not in ("identities", "cameras"):
        return draw.choice(ODD)
    return draw.choice(usual.get(parameter.name, ("1", "2", "3", "100", "2.0", "-1")))


def settings(draw, files):
    """KEY VALUE words, with files where keys name some."""
    found = []
    for _ in range(draw.choice((0, 0, 1, 1, 2, 4))):
        key = draw.choice(KEYS) if draw.random() < 0.9 else odd_key(draw)
        value = odd_value(draw)
        if key in ("OUTPUT_DIR", "DATALOADER.CACHE_DIR"):
            value = draw.choice(
                (f"out{draw.randrange(99)}", "run", "notes.txt", "notes.txt/x", "/dev/null/x", "", "x" * 300)
            )
        elif key in ("TEST.WEIGHT", "MODEL.PRETRAINED", "DATASETS.ROOT_DIR", "DATASETS.VERI_VIEWS", "DATASETS.NAMES"):
            value = draw.choice((*files, "data", f"folder:{draw.choice(files)}", value))
        found += draw.choice(([key, value], [f"{key}={value}"]))
    return [word.replace("\0", "") for word in found]


def command_line(draw, files, words):
    """Words for one of the subcommands."""
    path, command = draw.choice(COMMANDS)
    line, free = list(path), []
    base = draw.random() < 0.6
    for parameter in command.params:
        needed = parameter.required or draw.random() < 0.15
        if parameter.name == "overrides":
            free += [*(words if base and path[0] in ("train", "test", "bench") else ()), *settings(draw, files)]
        elif parameter.param_type_name == "argument":
            free += [value_of(draw, parameter, files)] if needed and draw.random() < 0.95 else []
        elif needed and parameter.name != "help":
            name = draw.choice(parameter.opts)
            line += [name] if getattr(parameter, "is_flag", False) else [name, value_of(draw, parameter, files)]
    if path == ("data", "synth"):
        line += ["--identities", "2", "--cameras", "2"]
    if path == ("train",):
        line += ["--max-steps", "1", f"OUTPUT_DIR=out{draw.randrange(99)}"]
    if path == ("test",) and base:
        line += ["TEST.WEIGHT=run/tiny_1.pth", f"OUTPUT_DIR=out{draw.randrange(99)}"]
    line += free
    if draw.random() < 0.15:
        place = draw.randrange(len(line) + 1)
        line = draw.choice((line[:place], [*line[:place], draw.choice(ODD), *line[place:]], line[::-1], line[place:]))
    return line


def test_command_lines(campaign, no_long_work, world, words):
    folder, files = world
    with campaign("command lines", memory=2 << 30) as run:
        for number in range(800):
            draw = random.Random(f"command {number}")
            line = command_line(draw, files, words)
            before = snapshot(folder)
            case = f"command {number}, {line!r:.400}"
            with run.attempt(case):
                check_call(run, case, call(line, draw.choice(("utf-8", "utf-8", "ascii", "latin-1"))), folder, before)
            for new in snapshot(folder).keys() - before.keys():
                if Path(new).is_dir() and not Path(new).is_symlink():
                    shutil.rmtree(new, ignore_errors=True)
                elif Path(new).exists():
                    Path(new).unlink()
    assert run.outcomes["accepted"] > 100

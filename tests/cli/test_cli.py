"""The command line as users meet it: help, doors, messages and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from svllreid.cli.main import run

ROOT = Path(__file__).parents[2]


def call(monkeypatch, capsys, *words):
    """Exit code, output and messages of a command, in this process."""
    monkeypatch.setattr(sys, "argv", ["svllreid", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        run()
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.fixture
def cli(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: call(monkeypatch, capsys, *words)


@pytest.mark.parametrize("words", [(), ("train",), ("test",), ("demo",), ("data",), ("data", "synth"), ("config",)])
def test_help_teaches(cli, words):
    code, out, _ = cli(*words, "--help")
    assert code == 0
    assert "Usage:" in out and len(out.splitlines()) > 8


def test_config_show_and_keys(cli):
    code, out, _ = cli("config", "show", "--config-file", "person/vit_svllreid.yml", "MODEL.SIE_COE", "2.0")
    assert code == 0 and "SIE_COE: 2.0" in out and "PROMPT_AUG_METHOD: mask" in out
    code, out, _ = cli("config", "keys")
    assert code == 0 and "SOLVER.STAGE1.PROMPT_AUG_SCALE" in out and "SOLVER.STAGE2.SSL_LOSS_WEIGHT" in out


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_arguments):
    """The published doors, from the repository root, without a GPU: train, then test."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    config = folder.with_name("mine.yml")
    config.write_text("MODEL:\n  NAME: tiny\nDATASETS:\n  NAMES: ('market1501')\n")
    environment = {**os.environ, "COLUMNS": "200"}
    common = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    door = [sys.executable, "train_svllreid.py", "--config_file", str(config), *small_arguments]
    train = subprocess.run([*door, "OUTPUT_DIR", str(folder)], **common)
    door = [sys.executable, "test_svllreid.py", "--config_file", str(config), *small_arguments]
    weight = str(folder / "tiny_2.pth")
    test = subprocess.run([*door, "OUTPUT_DIR", str(folder / "tested"), "TEST.WEIGHT", weight], **common)
    return folder, train, test


def test_published_doors(trained):
    folder, train, test = trained
    assert train.returncode == 0, train.stderr
    assert test.returncode == 0, test.stderr
    for out in (train.stdout, test.stdout):
        assert "mAP" in out and "rank-1" in out and "8 queries, 16 gallery images" in out
    metrics = json.loads((folder / "tested" / "metrics.json").read_text())
    assert metrics["mAP"] == json.loads((folder / "metrics.json").read_text())["mAP"]
    assert (folder / "tested" / "ranklist.png").is_file()


def test_test_without_a_configuration_takes_the_checkpoints_own(trained, cli, tmp_path):
    folder, _, _ = trained
    code, out, err = cli("test", "TEST.WEIGHT", folder / "tiny_2.pth", "OUTPUT_DIR", tmp_path, "--device", "cpu")
    assert code == 0, err
    assert "8 queries" in out and (tmp_path / "metrics.json").is_file()


def mistakes(small_arguments, tmp_path, trained_folder):
    base = [*small_arguments, "OUTPUT_DIR", tmp_path / "out"]
    weight = ["TEST.WEIGHT", trained_folder / "tiny_2.pth"]
    nowhere = tmp_path / "nowhere"
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.pth").write_text("hello")
    (tmp_path / "file").write_text("")
    return {
        "missing root": (["train", *base, "DATASETS.ROOT_DIR", nowhere], [str(nowhere)]),
        "missing folder": (["train", *base, "DATASETS.ROOT_DIR", tmp_path / "empty"], ["bounding_box_train"]),
        "unknown key": (["train", *base, "MODEL.NAM", "x"], ["unknown key MODEL.NAM", "MODEL.NAME"]),
        "unknown dataset": (["train", *base, "DATASETS.NAMES", "market1510"], ["market1510", "market1501"]),
        "unknown backbone": (["train", *base, "MODEL.NAME", "ViT-B-61"], ["ViT-B-61", "ViT-B-16"]),
        "unknown method": (["train", *base, "SOLVER.STAGE1.PROMPT_AUG_METHOD", "swop"], ["did you mean swap"]),
        "wrong type": (["train", *base, "SOLVER.MARGIN", "wide"], ["SOLVER.MARGIN", "'wide'", "number"]),
        "missing file": (["train", "--config-file", nowhere], ["no configuration file", "vit_svllreid.yml"]),
        "no such device": (["train", *base, "--device", "cuda:9"], ["--device cuda:9", "cpu"]),
        "no such core": (["train", *base, "--device", "cpu:x"], ["--device cpu:x", "cpu"]),
        "unwritable": (["train", *base[:-1], tmp_path / "file" / "out"], ["could not be written", "OUTPUT_DIR"]),
        "wrong shape": (
            ["test", *base, *weight, "INPUT.SIZE_TRAIN=[64, 32]", "INPUT.SIZE_TEST=[64, 32]"],
            ["positional_embedding", "INPUT.SIZE_TRAIN"],
        ),
        "other backbone": (
            ["test", *base, *weight, "MODEL.NAME=RN50", "MODEL.SIE_CAMERA=false"],
            ["ViT of width 256", "ResNet"],
        ),
        "no checkpoint": (
            ["test", *base, "TEST.WEIGHT", tmp_path / "notes.pth"],
            ["notes.pth", "not a readable weight file"],
        ),
        "no weight": (["test", *base], ["set TEST.WEIGHT"]),
        "weights nowhere": (["train", *base, "MODEL.PRETRAINED", nowhere], [str(nowhere), "neither a file nor a tag"]),
        "too few people": (["train", *base, "SOLVER.STAGE2.IMS_PER_BATCH", "64"], ["4 identities, a batch needs 32"]),
        "bad option": (["train", "--stage", "3"], ["--stage"]),
        "sizes differ": (["train", *base, "INPUT.SIZE_TEST", "[64, 32]"], ["INPUT.SIZE_TRAIN [32, 16]", "[64, 32]"]),
        "too small": (
            ["train", *base, "INPUT.SIZE_TRAIN=[8, 8]", "INPUT.SIZE_TEST=[8, 8]"],
            ["smaller than a patch"],
        ),
        "one identity": (["data", "synth", tmp_path / "people", "--identities", "1"], ["--identities"]),
    }


NAMES = [
    "missing root", "missing folder", "unknown key", "unknown dataset", "unknown backbone", "unknown method",
    "wrong type", "missing file", "no such device", "no such core", "unwritable", "wrong shape", "other backbone",
    "no checkpoint", "no weight", "weights nowhere", "too few people", "bad option", "sizes differ",
    "too small", "one identity",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_mistakes_are_one_message_and_exit_2(cli, name, small_arguments, tmp_path, trained):
    every = mistakes(small_arguments, tmp_path, trained[0])
    assert list(every) == NAMES
    words, expected = every[name]
    code, out, err = cli(*words)
    assert code == 2, out + err
    for text in expected:
        assert text in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_interruption_exits_130(cli, monkeypatch, small_arguments, tmp_path):
    import svllreid.jobs.training as training

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "run_stage", interrupt)
    code, _, err = cli("train", *small_arguments, "OUTPUT_DIR", tmp_path)
    assert code == 130 and "the same command continues" in err


def test_synth(cli, tmp_path):
    code, out, _ = cli("data", "synth", tmp_path / "people", "--identities", "2", "--seed", "3", "--cameras", "2")
    assert code == 0 and "2 people to train" in out
    assert len(list((tmp_path / "people").rglob("*.jpg"))) > 8
    code, _, err = cli("data", "synth", tmp_path / "people", "--identities", "2", "--seed", "3")
    assert code == 2 and str(tmp_path / "people") in err

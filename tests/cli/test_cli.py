"""The command line: help, the published scripts, messages and exit codes."""

import importlib.metadata
import io
import json
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import pytest
import torch
import typer

from svllreid.cli.main import app, run
from svllreid.config import known_keys
from svllreid.data import describe as describing
from svllreid.data.readers import DATASETS

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


def test_the_version_is_the_installed_one(cli):
    assert cli("--version") == (0, f"svllreid {importlib.metadata.version('svllreid')}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("train",),
        ("test",),
        ("demo",),
        ("data",),
        ("data", "synth"),
        ("data", "check"),
        ("data", "describe"),
        ("config",),
    ],
)
def test_help_teaches(cli, words):
    code, out, _ = cli(*words, "--help")
    assert code == 0
    assert "Usage:" in out and len(out.splitlines()) > 8


def test_config_show_and_keys(cli):
    code, out, _ = cli("config", "show", "--config-file", "person/vit_svllreid.yml", "MODEL.SIE_COE", "2.0")
    assert code == 0 and "SIE_COE: 2.0" in out and "PROMPT_AUG_METHOD: mask" in out
    code, out, _ = cli("config", "keys")
    assert code == 0 and "SOLVER.STAGE1.PROMPT_AUG_SCALE" in out and "SOLVER.STAGE2.SSL_LOSS_WEIGHT" in out


def commands(group=None, words=()):
    """The words of every command: ("train",), ("data", "synth") and so on."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        yield from commands(command, (*words, name)) if hasattr(command, "commands") else [(*words, name)]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_is_not_cut_at_80_columns(cli, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = cli(*words, "--help")
    assert code == 0 and not re.findall(r"\S+…", out)


def test_keys_can_be_copied_from_80_columns_and_values_are_as_files_have_them(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = cli("config", "keys")
    assert code == 0 and "…" not in out and all(f"│ {key} " in out for key, _ in known_keys())
    for key, value in (
        ("MODEL.STRIDE_SIZE", r"\[16, 16\]"),
        ("MODEL.SIE_CAMERA", "false"),
        ("INPUT.RE_MAX_AREA", "null"),
    ):
        assert re.search(rf"{re.escape(key)} +│ {value} +│", out)


def test_the_published_spelling_of_an_option(cli):
    code, out, _ = cli("config", "show", "--config_file", "person/vit_svllreid.yml")
    assert code == 0 and "SIE_COE: 1.0" in out


def test_config_show_prints_text_of_any_language(cli):
    code, out, _ = cli("config", "show", "OUTPUT_DIR", "Größe/人", "DATASETS.NAMES", "folder:/run #3")
    assert code == 0 and "OUTPUT_DIR: Größe/人\n" in out and "NAMES: 'folder:/run #3'\n" in out


@pytest.mark.parametrize("words", [("config", "keys"), ("config", "show", "OUTPUT_DIR", "gr\udcf6/人")])
def test_what_the_terminal_cannot_show_is_spelled_out(words, monkeypatch):
    """Such as the code pages of Windows, or a file name that is not UTF-8."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(sys, "argv", ["svllreid", *words])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 0


def test_negative_values(cli):
    code, _, err = cli("config", "show", "MODEL.SIE_COE", "-1.5")
    assert code == 2 and "write a value that begins with - as KEY=VALUE" in err
    assert "SIE_COE: -1.5" in cli("config", "show", "MODEL.SIE_COE=-1.5")[1]


@pytest.mark.parametrize("script", ["train_svllreid.py", "test_svllreid.py"])
def test_published_scripts_start_from_the_root(script):
    finished = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"Usage: {script} {script.partition('_')[0]} " in finished.stdout


def run_script(script, *words):
    """Exit code, output and messages of a published script, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", [script, *map(str, words)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    return end.value.code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_arguments):
    """The published scripts: train, then test."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    config = folder.with_name("mine.yml")
    config.write_text("MODEL:\n  NAME: tiny\nDATASETS:\n  NAMES: ('market1501')\n")
    common = ["--config_file", config, *small_arguments]
    train = run_script("train_svllreid.py", *common, "OUTPUT_DIR", folder)
    weight = ["TEST.WEIGHT", folder / "tiny_2.pth"]
    test = run_script("test_svllreid.py", *common, "OUTPUT_DIR", folder / "tested", *weight)
    return folder, train, test


def test_published_scripts(trained):
    folder, *found = trained
    for code, out, err in found:
        assert code == 0, err
        assert "mAP" in out and "rank-1" in out and re.search(r"market1501 .*│ +8 │ +16 │", out)
    metrics = json.loads((folder / "tested" / "metrics.json").read_text())
    assert metrics["mAP"] == json.loads((folder / "metrics.json").read_text())["mAP"]
    assert (folder / "tested" / "ranklist.png").is_file()


def test_test_without_a_configuration_takes_the_checkpoints_own(trained, cli, tmp_path):
    folder, _, _ = trained
    code, out, err = cli("test", "TEST.WEIGHT", folder / "tiny_2.pth", "OUTPUT_DIR", tmp_path, "--device", "cpu")
    assert code == 0, err
    assert re.search(r"│ +8 │ +16 │", out) and (tmp_path / "metrics.json").is_file()


def mistakes(small_arguments, tmp_path, trained_folder):
    base = [*small_arguments, "OUTPUT_DIR", tmp_path / "out"]
    weight = ["TEST.WEIGHT", trained_folder / "tiny_2.pth"]
    nowhere = tmp_path / "nowhere"
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.pth").write_text("hello")
    (tmp_path / "file").write_text("")
    twice = tmp_path / "twice.yml"
    twice.write_text("MODEL:\n  NAME: tiny\nMODEL:\n  SIE_COE: 2\n")
    return {
        "missing root": (["train", *base, "DATASETS.ROOT_DIR", nowhere], [str(nowhere)]),
        "missing folder": (["train", *base, "DATASETS.ROOT_DIR", tmp_path / "empty"], ["bounding_box_train"]),
        "unknown key": (["train", *base, "MODEL.NAM", "x"], ["unknown key MODEL.NAM", "MODEL.NAME"]),
        "unknown dataset": (["train", *base, "DATASETS.NAMES", "market1510"], ["market1510", "market1501"]),
        "unknown backbone": (["train", *base, "MODEL.NAME", "ViT-B-61"], ["ViT-B-61", "ViT-B-16"]),
        "unknown method": (["train", *base, "SOLVER.STAGE1.PROMPT_AUG_METHOD", "swop"], ["did you mean swap"]),
        "key without value": (
            ["train", "MODEL.USE_SSL", *base, "True"],
            ["MODEL.USE_SSL has no value: the word after it, "],
        ),
        "twice in a file": (["train", "--config-file", twice, *base], ["MODEL is given twice, in lines 1 and 3"]),
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
        "bad rate": (["test", *base, *weight, "TEST.FAR", "[2]"], ["TEST.FAR", "less than 1"]),
        "unknown test set": (["test", *base, *weight, "DATASETS.TEST", "msmt"], ["'msmt'", "did you mean msmt17"]),
        "no features": (["test", "--features", nowhere], [f"{nowhere} does not exist", "--save-features"]),
        "idle keys": (
            ["test", "--features", nowhere, "test.far", "[0.01]", "TEST.FLIP", "true", "TEST.WEIGHT", nowhere],
            ["cannot be changed any more: TEST.FLIP, TEST.WEIGHT would"],
        ),
        "not features": (["test", "--features", tmp_path / "notes.pth"], ["not a readable .npz archive"]),
        "idle re-ranking": (
            ["test", *base, *weight, "TEST.RE_RANKING_K1", "20"],
            ["TEST.RE_RANKING_K1 would have no effect", "TEST.RE_RANKING true"],
        ),
        "exported": (["test", *base, "TEST.WEIGHT", tmp_path / "model.onnx"], ["give the checkpoint that it was made"]),
        "one identity": (["data", "synth", tmp_path / "people", "--identities", "1"], ["--identities"]),
    }


NAMES = [
    "missing root", "missing folder", "unknown key", "unknown dataset", "unknown backbone", "unknown method",
    "key without value", "twice in a file", "wrong type", "missing file", "no such device", "no such core",
    "unwritable", "wrong shape", "other backbone", "no checkpoint", "no weight", "weights nowhere", "too few people",
    "bad option", "sizes differ", "too small", "bad rate", "unknown test set", "no features",
    "idle keys", "not features", "idle re-ranking", "exported", "one identity",
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


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory (MemoryError); lower INPUT.SIZE_TRAIN"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), "out of memory (CUDA out of memory. Tried); lower"),
        (
            RuntimeError("[x] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            "can't allocate memory: 9 bytes); lower",
        ),
    ],
)
def test_too_little_memory_exits_2(cli, monkeypatch, small_arguments, tmp_path, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("svllreid.jobs.training.run_stage", fail)
    code, _, err = cli("train", *small_arguments, "OUTPUT_DIR", tmp_path)
    assert code == 2 and words in err and "Traceback" not in err


def test_other_errors_are_ours(monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("svllreid.config.known_keys", fail)
    monkeypatch.setattr(sys, "argv", ["svllreid", "config", "keys"])
    with pytest.raises(RuntimeError, match="a fault of ours"):
        run()


def test_synth(cli, tmp_path):
    code, out, _ = cli("data", "synth", tmp_path / "people", "--identities", "2", "--seed", "3", "--cameras", "2")
    assert code == 0 and "2 people to train" in out
    assert len(list((tmp_path / "people").rglob("*.jpg"))) > 8
    code, _, err = cli("data", "synth", tmp_path / "people", "--identities", "2", "--seed", "3")
    assert code == 2 and str(tmp_path / "people") in err


@pytest.mark.parametrize("command", ["check", "describe"])
def test_help_of_data_commands_names_every_dataset_and_an_example(cli, command):
    _, out, _ = cli("data", command, "--help")
    assert f"Example: svllreid data {command} market1501 ~/data" in out
    for name in DATASETS:
        assert name in out


def row(out, first):
    """The cells of the only table row whose first cell is given."""
    (line,) = [line for line in out.splitlines() if line.startswith(f"│ {first} ")]
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_check_sets_found_beside_published(cli, market):
    code, out, err = cli("data", "check", "market1501", market, "--decode")
    assert code == 0, err
    assert row(out, "training identities") == ["4", "751", "differs"]
    assert row(out, "query images") == ["8", "3368", "differs"]
    assert row(out, "test identities") == ["4", "–", "–"]
    assert out.count("likely cause") == 1 and "another dataset in the same layout" in out
    assert out.count("3368") == 1, "each fact once"
    assert "all 48 images can be decoded" in out


@pytest.fixture
def part_of_market(tmp_path):
    """A copy of Market-1501 with all of its cameras, one image of each in every split; no file holds an image."""
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        folder = tmp_path / "Market-1501-v15.09.15" / part
        folder.mkdir(parents=True)
        for camera in range(1, 7):
            (folder / f"0002_c{camera}s1_000001_00.jpg").touch()
    (folder / "-1_c1s1_000001_00.jpg").touch()
    return tmp_path


def test_check_names_the_likely_cause_of_each_difference(cli, part_of_market):
    code, out, err = cli("data", "check", "market1501", part_of_market)
    assert code == 0, err
    assert row(out, "cameras") == ["6", "6", "ok"]
    assert row(out, "training images") == ["6", "12936", "differs"]
    assert "training identities, training images, query images differ; likely cause: a partial unzip or copy" in out
    assert "gallery images differ; likely cause: the distractors (identity 0) were removed" in out
    assert out.count("1 junk images") == 1 and "decoded" not in out


def test_check_counts_broken_images_and_names_the_first(cli, part_of_market):
    code, out, _ = cli("data", "check", "market1501", part_of_market, "--decode")
    folder = part_of_market / "Market-1501-v15.09.15" / "bounding_box_train"
    assert code == 0 and "18 of 18 images cannot be decoded" in out
    assert str(folder / "0002_c3s1_000001_00.jpg") in out and "0002_c4s1" not in out


def test_check_of_own_data_says_that_nothing_is_published(cli, tmp_path):
    (tmp_path / "train" / "ann").mkdir(parents=True)
    (tmp_path / "train" / "ann" / "1.jpg").touch()
    code, out, _ = cli("data", "check", "folder", tmp_path)
    assert code == 0 and row(out, "training images") == ["1"]
    assert "no published counts" in out and "verdict" not in out
    assert "note: cameras unknown" in out and "note: no query and gallery images" in out


def test_describe_counts_and_draws(cli, market, tmp_path):
    code, out, err = cli("data", "describe", "market1501", market, "--sheet", tmp_path / "new" / "sheet.png")
    assert code == 0, err
    assert row(out, "gallery") == ["4", "16", "2", "4", "4", "4.0", "4"]
    assert row(out, "1") == ["12", "4", "8"], "images of camid 1 by split"
    assert "cameras count from 0: c1 in a file name is camid 0" in out
    assert row(out, "height") == ["64", "64", "64.0", "64"]
    assert "64 x 32 (48 images)" in out and "file headers of all 48 images" in out
    assert "shared by train and test: 0" in out
    assert str(tmp_path / "new" / "sheet.png") in out and (tmp_path / "new" / "sheet.png").is_file()


def test_describe_names_shared_identities_and_its_sample(cli, tmp_path, market, monkeypatch):
    image = next(market.rglob("*.jpg")).read_bytes()
    for split, names in {"train": "abcde", "query": "bcdex", "gallery": "b"}.items():
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / f"{split}.jpg").write_bytes(image)
    monkeypatch.setattr(describing, "describe", partial(describing.describe, max_headers=5))
    code, out, err = cli("data", "describe", "folder", tmp_path)
    assert code == 0, err
    assert "shared by train and test: 4 (should be 0): b, c, d, ..." in out
    assert row(out, "unknown") == ["5", "5", "1"], "images of no known camera"
    assert "a random sample of 5 of the 11 images" in out


def test_describe_names_a_broken_image(cli, part_of_market, tmp_path):
    code, _, err = cli("data", "describe", "market1501", part_of_market, "--sheet", tmp_path / "sheet.png")
    assert code == 2 and "0002_c1s1_000001_00.jpg cannot be read as an image" in err
    assert "Traceback" not in err and not (tmp_path / "sheet.png").exists()


def test_describe_of_vehicleid_copes_without_a_gallery(cli, tmp_path, market):
    images = sorted(market.rglob("bounding_box_train/*.jpg"))[:4]
    (tmp_path / "image").mkdir()
    for number, image in enumerate(images):
        (tmp_path / "image" / f"{number}.jpg").write_bytes(image.read_bytes())
    lists = tmp_path / "train_test_split"
    lists.mkdir()
    (lists / "train_list.txt").write_text("0 7\n1 7\n")
    (lists / "test_list_800.txt").write_text("2 8\n3 8\n")
    code, out, err = cli("data", "describe", "VehicleID", tmp_path)
    assert code == 0, err
    assert row(out, "query") == ["1", "2", "1", "2", "2", "2.0", "2"]
    assert row(out, "gallery") == ["0", "0", "0", "–", "–", "–", "–"]
    assert "query holds all test images" in out


@pytest.mark.parametrize("command", ["check", "describe"])
def test_unknown_dataset_exits_2(cli, command, market):
    code, out, err = cli("data", command, "market1510", market)
    assert code == 2 and out == ""
    assert "did you mean market1501?" in err and "Traceback" not in err


def test_help_of_pretrain_tells_the_recipe(cli):
    from svllreid.rendered.recipe import Recipe

    code, out, _ = cli("pretrain", "--help")
    recipe, text = Recipe(), " ".join(out.replace("│", " ").split())
    assert code == 0
    for option, value in (("sites", recipe.sites), ("epochs", recipe.epochs), ("lr", recipe.lr)):
        assert re.search(rf"--{option} <.*?\[default: \({value}\)\]", text), option
    assert f"[default: ({recipe.batch_size})]" in text


@pytest.mark.parametrize(
    ("words", "kept"),
    [((), False), (("MODEL.SIE_CAMERA", "true"), True), (("MODEL.SIE_CAMERA=false",), False)],
)
def test_side_information_named_on_the_command_line_is_kept(cli, trained, monkeypatch, words, kept):
    from svllreid.errors import ConfigError
    from svllreid.jobs import testing

    asked = []

    def stop(config, options, **_):
        asked.append(options.keep_sie)
        raise ConfigError("enough")

    monkeypatch.setattr(testing, "run_test", stop)
    code, _, err = cli("test", "TEST.WEIGHT", trained[0] / "tiny_2.pth", *words)
    assert code == 2 and "enough" in err and asked == [kept]


@pytest.mark.parametrize("command", ["check", "describe"])
def test_pictures_that_stand_twice_are_counted(cli, command, tmp_path, market):
    images = sorted(market.rglob("*.jpg"))
    places = {
        "train/a/1.jpg": 0, "train/a/2.jpg": 0, "train/b/1.jpg": 1, "train/b/2.jpg": 0,
        "query/c/1.jpg": 2, "gallery/c/1.jpg": 2, "gallery/c/2.jpg": 3,
    }  # fmt: skip
    for place, which in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(images[which].read_bytes())
    code, out, err = cli("data", command, "folder", tmp_path)
    assert code == 0, err
    assert "same picture: 2 train images repeat another train image" in out
    assert "same picture: 1 gallery images are in query too" in out
    named = f"{tmp_path}/train/a/1.jpg (a) = {tmp_path}/train/b/2.jpg (b)"
    assert f"same picture: 1 pictures stand under two identities: {named}" in out
    code, out, _ = cli("data", command, "market1501", market)
    assert code == 0 and "no picture stands twice" in out

"""The command `svllreid export`: its table, its options, and what it refuses."""

import re
import sys

import pytest
from PIL import Image
from rich.console import Console

from svllreid import Encoder, load_config
from svllreid.build import TrainingData, build_model_for, build_splits
from svllreid.cli.main import run
from svllreid.errors import DatasetError, ImageError
from svllreid.jobs import exporting
from svllreid.jobs.exporting import ExportOptions, images_per_second, pictures, run_export
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint
from svllreid.runtime.progress import LiveReport


@pytest.fixture(scope="module")
def checkpoint(small_config, tmp_path_factory):
    """An untrained checkpoint of the small people, with the tiny CLIP's weights."""
    config = small_config({"MODEL.USE_TEXT": False, "MODEL.USE_SSL": False, "MODEL.USE_SSL_STAGE1": False})
    data = TrainingData.of(build_splits(config).train)
    info = CheckpointInfo(config.to_yaml_tree(), len(data.labels), 2, 1, list(data.labels), 2, 1, "0")
    path = tmp_path_factory.mktemp("exporting") / "tiny_1.pth"
    save_checkpoint(path, build_model_for(config, data, clip="random"), info)
    return path


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs `svllreid export` with these words; exit code, output, messages."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["svllreid", "export", *map(str, words)])
        monkeypatch.setattr(exporting, "SPEED_SECONDS", 0.01)
        with pytest.raises(SystemExit) as end:
            run()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


def test_table_and_file(call, checkpoint, market, tmp_path):
    photos, file = market / "Market-1501-v15.09.15" / "query", tmp_path / "new folder" / "m.onnx"
    code, out, _ = call(checkpoint, "-o", file, "--int8", "--images", photos, "--evaluate")
    assert code == 0 and f"written: {file}" in out
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == ["PyTorch float32", "onnx float32", "onnx int8 dynamic"]
    cosines = [float(row[1]) for row in rows]
    assert cosines[0] == 1 and cosines[1] > 0.9999 and cosines[2] > 0.99
    assert [int(row[3]) for row in rows] == [8 + 8, 8 + 8, 8], "random images are not asked of int8"
    assert all(float(row[4]) > 0 for row in rows) and float(rows[2][5]) < 0.45 * float(rows[0][5])
    assert rows[0][6] == rows[1][6] and all(re.fullmatch(r" +[\d.]+ % ", row[7]) for row in rows)
    assert Encoder.load(file, device="cpu").spec.precision == "int8"


def test_a_format_by_name_and_raw_input(call, checkpoint, tmp_path):
    code, out, _ = call(checkpoint, "-o", tmp_path / "m.ts", "--format", "torchscript", "--raw")
    assert code == 0 and "torchscript float32" in out and (tmp_path / "m.ts").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "m.txt"], r"m\.txt: its suffix names no format; .*\.onnx \(onnx\)"),
        (["-o", "m.onnx", "--format", "openvino"], r"openvino ends in \.xml"),
        (["-o", "m.onnx", "--format", "tflite"], "--format tflite: unknown; choose one of onnx, openvino"),
        (["-o", "m.onnx", "--input", "int4"], "--input int4: unknown; give uint8 or float"),
        (["-o", "m.onnx", "--calibrate", "."], "give --int8 too"),
        (["-o", "m.xml", "--int8"], "--calibrate"),
        (["-o", "m.onnx", "--images", "nowhere"], "nowhere is no folder"),
        (["-o", "m.onnx", "--images", "."], "hold no images"),
        (["-o", "folder.onnx"], r"folder\.onnx is a folder"),
        (["-o", "m.onnx", "INPUT.SIZE_TEST", "[64, 32]"], "INPUT.SIZE_TRAIN"),
    ],
)
def test_mistakes_end_in_one_message_and_write_nothing(words, message, call, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    code, _, err = call(checkpoint, *words)
    assert code == 2 and re.search(message, err) and "Traceback" not in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.onnx"]


def test_the_weights_of_something_else_are_not_replaced(call, checkpoint, tmp_path):
    (tmp_path / "pytorch_model.bin").write_text("of something else")
    code, _, err = call(checkpoint, "-o", tmp_path / "pytorch_model.xml")
    assert code == 2 and "pytorch_model.bin is there already" in err
    assert (tmp_path / "pytorch_model.bin").read_text() == "of something else"


def test_a_checkpoint_that_does_not_exist(call, tmp_path):
    code, _, err = call(tmp_path / "none.pth", "-o", tmp_path / "m.onnx")
    assert code == 2 and "none.pth" in err


def test_pictures_of_a_folder(checkpoint, tmp_path):
    spec = Encoder.load(checkpoint, device="cpu").spec
    for number in range(5):
        (tmp_path / f"below{number % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (16, 32), (number, 0, 0)).save(tmp_path / f"below{number % 2}" / f"{number}.png")
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "notes.txt").touch()
    report = LiveReport(Console(quiet=True))
    assert pictures(tmp_path, spec, 10, report)[:, 0, 0, 0].tolist() == [0, 2, 4, 1, 3]
    chosen = pictures(tmp_path, spec, 2, report)
    assert chosen.shape == (2, 3, 32, 16) and chosen[:, 0, 0, 0].tolist() == [0, 4]
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"damaged\.png"):
        pictures(tmp_path, spec, 10, report)
    with pytest.raises(DatasetError, match="is no folder"):
        pictures(tmp_path / "notes.txt", spec, 10, report)


def test_speed_is_measured_at_least_three_times():
    calls = []

    class Counting:
        spec = type("Spec", (), {"image_size": (4, 2)})

        def __call__(self, images, camids, viewids):
            calls.append(images.shape)

    assert images_per_second(Counting(), batch_size=6, seconds=0) > 0
    assert calls == [(6, 3, 4, 2)] * 4


@pytest.mark.slow
@pytest.mark.real
def test_int8_loses_little_on_real_people(real_data, small_config, tmp_path):
    """The tiny CLIP as it comes, on PKU-Reid: less than half a point of mAP."""
    settings = {"DATASETS.NAMES": "market1501", "DATASETS.ROOT_DIR": str(real_data / "pku_reid")}
    off = {"MODEL.USE_TEXT": False, "MODEL.USE_SSL": False, "MODEL.SIE_CAMERA": False}
    config = load_config("person/tiny_svllreid.yml", {**settings, **off})
    data = TrainingData.of(build_splits(config).train)
    info = CheckpointInfo(config.to_yaml_tree(), len(data.labels), 1, 1, list(data.labels), 2, 1, "0")
    save_checkpoint(tmp_path / "tiny_1.pth", build_model_for(config, data), info)
    train = real_data / "pku_reid" / "Market-1501-v15.09.15" / "bounding_box_train"
    for name, calibrate in (("dynamic.onnx", None), ("static.onnx", train), ("static.xml", train)):
        options = ExportOptions(int8=True, images=train, calibrate=calibrate, evaluate=True)
        exact, plain, int8 = run_export(tmp_path / "tiny_1.pth", tmp_path / name, options=options)
        [(before, _)], [(same, _)], [(after, _)] = (row.ranking.values() for row in (exact, plain, int8))
        assert abs(before - same) < 1e-6 and before > 0.15
        assert before - after < 0.005, f"{name}: {before} became {after}"
        assert int8.agreement.mean > 0.999

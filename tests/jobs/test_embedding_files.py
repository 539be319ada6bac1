"""`svllreid embed`: images to a file of features, in parts that outlive a kill."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svllreid import Encoder, build_model
from svllreid.embedding.export import export_model
from svllreid.errors import EvaluationError, ImageError, OutputError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.table_file import read_arrays, read_table
from svllreid.jobs import embedding_files as module
from svllreid.jobs.embedding_files import EmbedOptions, embed_to_file
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint


def checkpoint(config, num_cameras, path):
    """A checkpoint with random weights; side information, if any, is far from zero."""
    model = build_model(config, num_classes=2, num_cameras=num_cameras)
    if config.model.sie_camera:
        torch.nn.init.normal_(model.cv_embed)
    tree, counts = config.to_yaml_tree(), {"num_classes": 2, "num_cameras": num_cameras, "num_views": 1}
    info = CheckpointInfo(config=tree, **counts, pids=[1, 2], stage=2, epoch=1, version="0")
    save_checkpoint(path, model, info, model.state_dict())
    return path


@pytest.fixture
def weights(small_config, tmp_path):
    return checkpoint(small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": False}), 2, tmp_path / "model.pth")


@pytest.fixture
def folder(tmp_path):
    """23 images in two folders, two of them cut off, and a text file."""
    random = np.random.default_rng(0)
    for number in range(23):
        place = tmp_path / "crops" / ("a" if number < 11 else "b/c")
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"{number:02d}_c{number % 3 + 1}.png"
        Image.fromarray(random.integers(0, 256, (32, 16, 3), np.uint8)).save(file)
        if number in (4, 15):
            file.write_bytes(file.read_bytes()[:50])
    (tmp_path / "crops" / "notes.txt").write_text("no image")
    return tmp_path / "crops"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART_ROWS", 5)


SKIP = EmbedOptions(device="cpu", batch_size=3, skip_unreadable=True)


def names(table):
    return [Path(path).name[:2] for path in table.columns["path"].tolist()]


def test_a_folder_becomes_a_table(weights, folder, tmp_path):
    output = tmp_path / "out.parquet"
    assert embed_to_file(folder, weights, output, SKIP) == 21
    table, spec = read_table(output)
    encoder = Encoder.load(weights, device="cpu")
    assert names(table) == [f"{n:02d}" for n in range(23) if n not in (4, 15)]
    assert table.columns["camid"].tolist() == [n % 3 for n in range(23) if n not in (4, 15)]
    assert set(table.columns["pid"]) == {""} and np.isnan(table.columns["time"]).all()
    np.testing.assert_allclose(table.vectors, encoder.encode(table.columns["path"].tolist()), atol=1e-6)
    assert spec == encoder.spec
    with (tmp_path / "out.skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows] == ["04_c2.png", "15_c1.png"]
    assert all("cannot be read" in row["reason"] for row in rows)
    assert not (tmp_path / "out.parquet.parts").exists()


def test_an_unreadable_image_stops_and_nothing_is_written(weights, folder, tmp_path):
    with pytest.raises(ImageError, match="04_c2"):
        embed_to_file(folder, weights, tmp_path / "out.npz", EmbedOptions(device="cpu", batch_size=3))
    assert not (tmp_path / "out.npz").exists()


def test_absent_images_are_counted_before_any_is_embedded(weights, folder, tmp_path):
    table = folder / "table.csv"
    table.write_text("path\na/00_c1.png\nb/no.png\nnothing.png\n")
    output = tmp_path / "out.npz"
    with pytest.raises(ImageError, match=r"2 of the 3 images that .*table\.csv names are absent: .*no\.png, .*nothing"):
        embed_to_file(table, weights, output, EmbedOptions(device="cpu"))
    assert not output.exists() and not output.with_name("out.npz.parts").exists()
    assert embed_to_file(table, weights, output, SKIP) == 1


def test_names_that_parquet_cannot_hold_are_refused_at_once(weights, folder, tmp_path):
    odd = folder / os.fsdecode(b"\xff.jpg")
    odd.write_bytes(next(folder.rglob("*.*")).read_bytes())
    with pytest.raises(EvaluationError, match="is not Unicode, as Parquet needs it"):
        embed_to_file(folder, weights, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_killed_call_continues_with_no_row_lost_or_twice(weights, folder, tmp_path, monkeypatch):
    embed_to_file(folder, weights, tmp_path / "whole.npz", SKIP)
    save, saved = module._Parts.save, []

    def killed(self, number, *rest):
        save(self, number, *rest)
        saved.append(number)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Parts, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_to_file(folder, weights, tmp_path / "out.npz", SKIP)
    assert saved == [0, 1] and not (tmp_path / "out.npz").exists()
    embed_to_file(folder, weights, tmp_path / "out.npz", SKIP)
    assert saved == [0, 1, 2, 3]
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "out.npz") as again:
        assert set(whole.files) == set(again.files)
        for name in whole.files:
            assert np.array_equal(whole[name], again[name], equal_nan=name == "time"), name
    assert (tmp_path / "out.skipped.csv").read_text() == (tmp_path / "whole.skipped.csv").read_text()


def test_parts_of_other_images_and_a_finished_file_are_not_replaced(weights, folder, tmp_path, monkeypatch):
    output = tmp_path / "out.npz"
    monkeypatch.setattr(module._Parts, "blocks", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embed_to_file(folder, weights, output, SKIP)
    monkeypatch.undo()
    monkeypatch.setattr(module, "PART_ROWS", 5)
    (folder / "a" / "00_c1.png").unlink()
    with pytest.raises(OutputError, match="parts of other images"):
        embed_to_file(folder, weights, output, SKIP)
    assert embed_to_file(folder, weights, output, EmbedOptions("cpu", None, 3, skip_unreadable=True, fresh=True)) == 20
    with pytest.raises(OutputError, match="is there already"):
        embed_to_file(folder, weights, output, SKIP)


def test_a_damaged_part_is_named_and_embedded_again(weights, folder, tmp_path, monkeypatch):
    output = tmp_path / "out.npz"
    monkeypatch.setattr(module._Parts, "blocks", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embed_to_file(folder, weights, output, SKIP)
    monkeypatch.undo()
    monkeypatch.setattr(module, "PART_ROWS", 5)
    part = tmp_path / "out.npz.parts" / "000001.npz"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(OutputError, match=r"000001\.npz is damaged"):
        embed_to_file(folder, weights, output, SKIP)
    part.unlink()
    assert embed_to_file(folder, weights, output, SKIP) == 21


def test_a_dataset_in_a_table_is_ranked_by_test(weights, folder, tmp_path):
    images = [f"crops/a/{n:02d}_c{n % 3 + 1}.png" for n in range(4)]
    rows = [("path", "pid", "camid", "split", "time")]
    rows += [
        (images[0], "x", 0, "query", "2026-05-01T12:00:00+02:00"),
        (images[1], "x", 1, "gallery", "10.5"),
        (images[2], "y", 2, "gallery", ""),
    ]
    (tmp_path / "list.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    for name in ("out.parquet", "out.npz"):
        assert embed_to_file(tmp_path / "list.csv", weights, tmp_path / name, EmbedOptions("cpu")) == 3
        features = FeatureSet.load(tmp_path / name)
        assert features.protocol == "cross-camera" and features.spec == Encoder.load(weights, device="cpu").spec
        assert [sample.pid for sample in features.query + features.gallery] == ["x", "x", "y"]
        assert [sample.camid for sample in features.gallery] == [1, 2]
    table, _ = read_table(tmp_path / "out.parquet")
    assert table.columns["time"][0] == 1777629600.0 and table.columns["time"][1] == 10.5


def test_side_information_only_on_request(small_config, folder, tmp_path, caplog):
    checkpoint(small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": True}), 3, tmp_path / "sie.pth")
    for cameras in (False, True):
        options = EmbedOptions("cpu", None, 3, cameras=cameras, skip_unreadable=True, fresh=True)
        embed_to_file(folder, tmp_path / "sie.pth", tmp_path / "out.npz", options)
        with np.load(tmp_path / "out.npz") as arrays:
            record = json.loads(str(arrays["embedding"]))
        assert record["sie_camera"] == cameras
        assert ("side information is left out" in caplog.text) == (not cameras)
        caplog.clear()


def test_an_exported_file_is_as_its_checkpoint(small_config, folder, tmp_path):
    weights = checkpoint(small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": True}), 3, tmp_path / "sie.pth")
    model, exported = Encoder.load(weights, device="cpu"), weights.with_suffix(".onnx")  # beside the same .json
    export_model(model.embedder, model.side_rows, exported)
    for cameras in (False, True):
        tables = []
        for file in (weights, exported):
            output = tmp_path / f"{file.suffix[1:]}_{cameras}.npz"
            embed_to_file(folder, file, output, EmbedOptions("cpu", cameras=cameras, skip_unreadable=True))
            tables.append(read_arrays(output))
        np.testing.assert_allclose(tables[0]["vectors"], tables[1]["vectors"], atol=1e-5)
        assert tables[0]["embedding"] == tables[1]["embedding"]


def test_parts_of_another_precision_are_refused(weights, folder, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(module, "write_table", lambda *parts: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            embed_to_file(folder, weights, tmp_path / "out.npz", SKIP)
    other = replace(SKIP, precision="bf16-mixed")
    with pytest.raises(OutputError, match="another precision"):
        embed_to_file(folder, weights, tmp_path / "out.npz", other)


@pytest.mark.slow
def test_two_processes_share_the_parts(weights, folder, tmp_path):
    embed_to_file(folder, weights, tmp_path / "one.npz", SKIP)
    command = [sys.executable, "-m", "svllreid", "embed", str(folder), "--weights", str(weights), "--device", "cpu"]
    command += ["-o", str(tmp_path / "two.npz"), "--batch-size", "3", "--skip-unreadable", "--devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert one["path"].tolist() == two["path"].tolist()
        np.testing.assert_allclose(one["vectors"], two["vectors"], atol=1e-6)

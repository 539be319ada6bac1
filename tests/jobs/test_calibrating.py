"""`svllreid calibrate`: what is compared, what is left out, and that nothing is half written."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest

from svllreid import Calibration, Encoder, load_dataset
from svllreid.errors import CheckpointError, DatasetError, EvaluationError, ImageError
from svllreid.evaluation.table_file import read_table, write_table
from svllreid.jobs.calibrating import CalibrateOptions, calibrate_to_file
from svllreid.jobs.embedding_files import EmbedOptions, embed_to_file

from .test_embedding_files import checkpoint

CPU = CalibrateOptions(device="cpu")


def test_a_table_of_images(labelled, weights, tmp_path, capsys):
    output, plot = tmp_path / "new" / "c.json", tmp_path / "new" / "c.png"
    calibrate_to_file(labelled, weights, output, CPU, plot=plot)
    calibration = Calibration.load(output)
    record = calibration.record
    assert (record.dataset, record.images, record.identities, record.cameras) == ("people.csv", 48, 12, (0, 1))
    assert (record.pairs["all"].genuine, record.pairs["all"].impostor) == (72, 1056)
    assert calibration.supported_rates() == (0.01,)
    calibration.check(Encoder.load(weights, device="cpu").spec)
    assert {file.name for file in output.parent.iterdir()} == {"c.json", "c.png"}
    assert "reliability of 6 kinds of pairs" in capsys.readouterr().err


def test_features_need_no_weights_and_give_the_same(labelled, weights, tmp_path):
    first = calibrate_to_file(labelled, weights, tmp_path / "a.json", CPU)
    for name in ("f.parquet", "f.npz"):
        embed_to_file(labelled, weights, tmp_path / name, EmbedOptions(device="cpu"))
        again = calibrate_to_file(tmp_path / name, None, tmp_path / "b.json", CPU)
        assert again.record.pairs == first.record.pairs
    calibrate_to_file(tmp_path / name, weights, tmp_path / "b.json", CPU)


def test_features_of_another_model_are_refused(labelled, weights, small_config, tmp_path):
    embed_to_file(labelled, weights, tmp_path / "f.npz", EmbedOptions(device="cpu"))
    config = small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": False, "TEST.NECK_FEAT": "after"})
    other = checkpoint(config, 2, tmp_path / "other.pth")
    with pytest.raises(EvaluationError, match=r"cannot be compared: .*neck"):
        calibrate_to_file(tmp_path / "f.npz", other, tmp_path / "c.json", CPU)
    assert not (tmp_path / "c.json").exists()


def test_what_is_left_out_is_counted(labelled, weights, tmp_path, capsys):
    folder = tmp_path / "people"
    shutil.copytree(labelled.parent, folder)
    lines = (folder / "people.csv").read_text().splitlines()
    shutil.copy(folder / "0_0.png", folder / "copy.png")
    lines += ["copy.png,p0,0,gallery", "1_0.png,,0,gallery", "broken.png,p1,0,train"]
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "people.csv").write_text("\n".join(lines))
    with pytest.raises(ImageError, match=r"broken\.png"):
        calibrate_to_file(folder / "people.csv", weights, tmp_path / "c.json", CPU)
    options = replace(CPU, skip_unreadable=True)
    record = calibrate_to_file(folder / "people.csv", weights, tmp_path / "c.json", options).record
    messages = capsys.readouterr().err
    assert "1 of 51 images have no pid" in messages
    assert "1 images repeat the picture of another one" in messages
    assert "1 images could not be read" in messages
    assert "1 images are of the split train" in messages
    assert (record.images, record.left_out) == (48, 1)


def test_rows_of_a_split(labelled, weights, tmp_path):
    options = replace(CPU, splits=("gallery",))
    record = calibrate_to_file(labelled, weights, tmp_path / "c.json", options).record
    assert (record.images, record.pairs["all"].genuine) == (36, 36)
    with pytest.raises(DatasetError, match="no image of the split val") as error:
        calibrate_to_file(labelled, weights, tmp_path / "c.json", replace(CPU, splits=("val",)))
    assert error.value.settings == ("splits",)


def test_means_of_images(labelled, weights, tmp_path):
    record = calibrate_to_file(labelled, weights, tmp_path / "c.json", replace(CPU, mean_of=2)).record
    assert (record.images, record.mean_of, record.pairs["all"].genuine) == (24, 2, 12)


def test_rows_without_a_path_are_all_kept(labelled, weights, tmp_path):
    embed_to_file(labelled, weights, tmp_path / "f.parquet", EmbedOptions(device="cpu"))
    table, spec = read_table(tmp_path / "f.parquet")
    table.columns["path"] = np.full(48, "")
    write_table(tmp_path / "g.npz", [table], spec)
    assert calibrate_to_file(tmp_path / "g.npz", None, tmp_path / "c.json", CPU).record.images == 48


def test_input_that_cannot_be_calibrated(labelled, weights, tmp_path):
    output = tmp_path / "c.json"
    with pytest.raises(EvaluationError, match="name the model") as error:
        calibrate_to_file(labelled, None, output, CPU)
    assert error.value.settings == ("weights",)
    with pytest.raises(EvaluationError, match=r"written as \.json"):
        calibrate_to_file(labelled, weights, tmp_path / "c.txt", CPU)
    with pytest.raises(EvaluationError, match=r"written as \.png"):
        calibrate_to_file(labelled, weights, output, CPU, plot=tmp_path / "c.pdf")
    (tmp_path / "unlabelled.csv").write_text(f"path\n{labelled.parent / '0_0.png'}\n")
    with pytest.raises(DatasetError, match="names no identity"):
        calibrate_to_file(tmp_path / "unlabelled.csv", weights, output, CPU)
    with pytest.raises(CheckpointError):
        calibrate_to_file(labelled, tmp_path / "none.pth", output, CPU)
    np.savez(tmp_path / "plain.npz", vectors=np.eye(3, dtype=np.float32), pid=np.array(["a", "a", "b"]))
    with pytest.raises(EvaluationError, match="does not say which model"):
        calibrate_to_file(tmp_path / "plain.npz", None, output, CPU)
    np.savez(tmp_path / "else.npz", a=np.eye(3))
    with pytest.raises(EvaluationError, match="has no array vectors"):
        calibrate_to_file(tmp_path / "else.npz", None, output, CPU)
    with pytest.raises(EvaluationError, match="does not exist"):
        calibrate_to_file(tmp_path / "none.npz", None, output, CPU)
    assert not output.exists()


def test_too_few_identities_for_a_plot_is_a_warning(labelled, weights, tmp_path, capsys):
    """The calibration is there and useful, so the command does not end in an error after it."""
    lines = labelled.read_text().splitlines()
    people = [f"{labelled.parent / line}" for line in lines[1:] if line.split(",")[1] in {"p0", "p1"}]
    few = tmp_path / "few.csv"
    few.write_text("\n".join([lines[0], *people]))
    calibration = calibrate_to_file(few, weights, tmp_path / "c.json", CPU, plot=tmp_path / "c.png")
    assert calibration.record.identities == 2 and not (tmp_path / "c.png").exists()
    assert "c.png is not drawn: there are too few identities" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.real
def test_real_people(real_data, weights, tmp_path):
    splits = load_dataset("market1501", real_data / "pku_reid")
    with (tmp_path / "people.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "pid", "camid"])
        table.writerows([sample.path, sample.pid, sample.camid] for sample in splits.query + splits.gallery)
    record = calibrate_to_file(tmp_path / "people.csv", weights, tmp_path / "c.json", CPU).record
    assert (record.images, record.identities, record.cameras) == (192, 12, (0, 1))
    assert (record.pairs["all"].genuine, record.pairs["all"].impostor) == (12 * 120, 192 * 191 // 2 - 12 * 120)

"""Own data as users number, name and move it: cameras by date, folders elsewhere, side information by name."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from svllreid import Encoder, build
from svllreid.config import from_tree
from svllreid.data.readers.layout import list_folder
from svllreid.errors import CheckpointError, ConfigError, DatasetError
from svllreid.jobs.preparing import Options, check_cameras, load_splits, load_test_splits
from svllreid.jobs.testing import asks_for_sie, prepare_tests, run_test
from svllreid.jobs.testing import test_config as checkpoint_config
from svllreid.jobs.training import train
from svllreid.models.checkpoint import read_info
from svllreid.runtime.progress import LiveReport

from ..conftest import draw_person

DATES = ("20240105", "20240212")
SHORT = {"SOLVER.STAGE1.MAX_EPOCHS": 1, "SOLVER.STAGE2.MAX_EPOCHS": 1, "DATASETS.NAMES": "folder"}


def people(root, cameras=DATES, splits=("train", "query", "gallery")):
    """Four people to train and two to test, seen by every camera; `cameras` is what file names say."""
    for split in splits:
        for pid in range(4) if split == "train" else (4, 5):
            for camera, name in enumerate(cameras):
                for shot in range(2 if split == "train" else 1):
                    path = root / split / f"p{pid}" / f"{shot}_c{name}.jpg"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    draw_person(pid, 100 * camera + shot + 10 * (split == "gallery"), (32, 16)).save(path)
    return root


def run(small_config, root, folder, **keys):
    return train(small_config({**SHORT, "DATASETS.ROOT_DIR": str(root), "OUTPUT_DIR": str(folder), **keys}))


@pytest.fixture(scope="module")
def trained(small_config, tmp_path_factory):
    """A run on cameras numbered by date: its data, its checkpoint and its metrics."""
    base = tmp_path_factory.mktemp("own")
    metrics = run(small_config, people(base / "data"), base / "run")
    return base / "data", base / "run" / "tiny_1.pth", metrics


def report():
    return LiveReport(Console(file=io.StringIO()))


def test_cameras_by_date_train_as_cameras_counted_from_one(trained, small_config, tmp_path):
    _, weight, metrics = trained
    info = json.loads(weight.with_suffix(".json").read_text())
    assert (info["num_cameras"], info["cameras"], info["views"]) == (2, [20240104, 20240211], [])
    counted = run(small_config, people(tmp_path / "data", ("1", "2")), tmp_path / "run")
    first, second = (torch.load(file, weights_only=True) for file in (weight, tmp_path / "run" / "tiny_1.pth"))
    assert first["cv_embed"].shape == (2, 256)
    assert all(torch.equal(first[name], second[name]) for name in first | second)
    assert counted["verification"] == metrics["verification"]


def test_the_encoder_takes_the_datasets_own_camera_numbers(trained):
    data, weight, _ = trained
    encoder = Encoder.load(weight, device="cpu")
    image = data / "query" / "p4" / f"0_c{DATES[0]}.jpg"
    first, second, unknown = (encoder.encode([image], camids=[camid]) for camid in (20240104, 20240211, -1))
    assert not np.allclose(first, second) and not np.allclose(first, unknown)
    np.testing.assert_array_equal(encoder.encode([image]), unknown)
    with pytest.raises(DatasetError, match=r"camids 0 is none of those .*\(20240104, 20240211\); give -1"):
        encoder.encode([image], camids=[0])


def test_cameras_that_were_not_trained_on_are_refused_by_name(small_config, tmp_path):
    root = people(tmp_path / "data", (*DATES, "7"))
    for image in (root / "train").rglob("*_c7.jpg"):
        image.unlink()
    with pytest.raises(DatasetError, match=r"test images have camera 6, .*p4/0_c7\.jpg.*for camera 20240104, 20240211"):
        run(small_config, root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_trial_on_few_identities_knows_all_cameras(small_config, tmp_path):
    root = people(tmp_path / "data")
    for image in (root / "train" / "p0").glob(f"*_c{DATES[1]}.jpg"):
        image.unlink()
    config = small_config({**SHORT, "DATASETS.ROOT_DIR": str(root)})
    splits = load_splits(config, Options(limit_identities=1), report())
    assert {sample.camid for sample in splits.train} == {20240104}
    data = build.TrainingData.of(splits.train, splits.side_rows)
    assert data.side_rows.cameras == (20240104, 20240211)
    check_cameras(config, splits, data.side_rows)


def test_continuing_with_other_cameras_is_refused(trained, small_config, tmp_path):
    data, weight, _ = trained
    shutil.copytree(weight.parent, tmp_path / "run")
    for file in (tmp_path / "run").glob("tiny_[1b]*"):
        file.unlink()
    shutil.copytree(data, tmp_path / "data")
    for image in (tmp_path / "data").rglob(f"*_c{DATES[1]}.jpg"):
        image.rename(image.with_name(image.name.replace(DATES[1], "20250101")))
    with pytest.raises(CheckpointError, match=r"stage2\.pt was trained with other cameras or viewpoints"):
        run(small_config, tmp_path / "data", tmp_path / "run")


def prepared(weight, *words):
    """What a test would do: whether side information is on for each test set, and what it says of it."""
    overrides = ["TEST.WEIGHT", str(weight), *map(str, words)]
    config, info = checkpoint_config(None, overrides), read_info(weight)
    tests = load_test_splits(config, Options(), report())
    origin = build.trained_on(from_tree(info.config), info)
    keep = asks_for_sie(config, overrides)
    return [
        (test.config.model.sie_camera, test.splits.notes[-1] if test.splits.notes else "")
        for test in prepare_tests(tests, config, origin, info.side_rows, keep_sie=keep)
    ]


def test_data_that_was_moved_gives_the_same_numbers(trained, tmp_path, monkeypatch):
    data, weight, metrics = trained
    shutil.copytree(data, tmp_path / "elsewhere" / "mine")
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = ["TEST.WEIGHT", str(weight), "DATASETS.ROOT_DIR", "mine", "OUTPUT_DIR", str(tmp_path / "out")]
    again = run_test(checkpoint_config(None, words))
    assert again == {**metrics, "weight": str(weight)}


def test_only_what_is_listed_makes_data_the_same(trained, tmp_path):
    data, weight, _ = trained
    root = tmp_path / "copy"
    shutil.copytree(data, root)
    shutil.copy(root / "gallery/p4" / f"0_c{DATES[0]}.jpg", root / "gallery/p4" / f"more_c{DATES[0]}.jpg")
    assert prepared(weight, "DATASETS.ROOT_DIR", root) == [(True, "")], "a larger gallery"
    shutil.rmtree(root / "train")
    assert prepared(weight, "DATASETS.ROOT_DIR", root)[0][0], "without the training images"
    for image in root.rglob("*.jpg"):
        image.rename(image.with_name(f"other_{image.name}"))
    [(used, note)] = prepared(weight, "DATASETS.ROOT_DIR", root)
    assert not used
    assert note.startswith("MODEL.SIE_CAMERA and SIE_VIEW are switched off: camera ids mean nothing outside folder:")
    assert note.endswith("which lists other images; for the same cameras set MODEL.SIE_CAMERA true")


def test_the_same_data_as_a_table_is_the_same(trained, tmp_path):
    data, weight, _ = trained
    rows = ["path,pid,camid,split"]
    for split in ("train", "query", "gallery"):
        for pid in list_folder(data / split).folders:
            for image in sorted((data / split / pid).iterdir()):
                rows.append(f"{image},{pid},{int(image.stem.partition('_c')[2]) - 1},{split}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    words = ("DATASETS.NAMES", "manifest", "DATASETS.ROOT_DIR", tmp_path / "list.csv")
    assert prepared(weight, *words) == [(True, "")]


def test_side_information_asked_for_by_name_stays_or_is_refused(trained, tmp_path):
    _, weight, _ = trained
    others = people(tmp_path / "others", splits=("query", "gallery"))
    for image in others.rglob("*.jpg"):
        image.rename(image.with_name(f"other_{image.name}"))
    root = ("DATASETS.ROOT_DIR", others)
    assert not prepared(weight, *root)[0][0]
    for words in (("MODEL.SIE_CAMERA", "true"), ("MODEL.SIE_CAMERA=true",)):
        [(used, note)] = prepared(weight, *root, *words)
        assert used and note.startswith("MODEL.SIE_CAMERA on, as given: camera ids are taken for those of folder:")
    strange = people(tmp_path / "strange", ("1", "2"), splits=("query", "gallery"))
    with pytest.raises(DatasetError, match=r"folder: test images have camera 0, 1, counted from 0 .*SIE_CAMERA false"):
        prepared(weight, "DATASETS.ROOT_DIR", strange, "MODEL.SIE_CAMERA", "true")
    for image in strange.rglob("*.jpg"):
        image.rename(image.with_name(image.name.replace("_c", "_")))
    assert not prepared(weight, "DATASETS.ROOT_DIR", strange)[0][0]
    with pytest.raises(ConfigError, match=r"MODEL\.SIE_CAMERA true: no test image of folder has a known camera"):
        prepared(weight, "DATASETS.ROOT_DIR", strange, "MODEL.SIE_CAMERA", "true")


def test_a_record_from_before_is_compared_by_place_and_counts_its_cameras(trained, tmp_path):
    data, weight, _ = trained
    old = tmp_path / "old.pth"
    shutil.copy(weight, old)
    info = json.loads(weight.with_suffix(".json").read_text())
    for name in ("cameras", "views", "listings"):
        del info[name]
    old.with_suffix(".json").write_text(json.dumps(info))
    assert read_info(old).side_rows.cameras == (0, 1)
    with pytest.raises(DatasetError, match="for camera 0, 1"):
        prepared(old)
    shutil.copytree(data, tmp_path / "copy")
    [(used, _)] = prepared(old, "DATASETS.ROOT_DIR", tmp_path / "copy")
    assert not used, "nothing says that it is the same"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cameras": [1, 2, 3]}, r"cameras \[1, 2, 3\] do not fit 2 rows"),
        ({"cameras": [1, 1]}, r"cameras \[1, 1\] do not fit 2 rows"),
        ({"cameras": ["a", "b"]}, "cameras are not whole numbers"),
        ({"views": 3}, "views are not whole numbers"),
        ({"listings": "abc"}, "listings are no fingerprints"),
    ],
)
def test_a_record_that_was_damaged_is_refused(trained, tmp_path, change, words):
    info = json.loads(trained[1].with_suffix(".json").read_text())
    (tmp_path / "x.json").write_text(json.dumps({**info, **change}))
    with pytest.raises(CheckpointError, match=rf"x\.json, which belongs to x\.pth, cannot be read: {words}"):
        read_info(Path(tmp_path / "x.pth"))

"""File names that are no UTF-8 text, as in archives of other systems: nothing that reads or writes them stumbles."""

import csv
import io
import json
import os
import sys

import pytest

from svllreid.cli.main import run
from svllreid.data.readers.listed_images import list_images
from svllreid.data.readers.manifest import read_manifest
from svllreid.errors import OutputError
from svllreid.files import UNENCODABLE
from svllreid.jobs.preparing import Options
from svllreid.jobs.testing import run_features, run_test
from svllreid.jobs.training import train
from svllreid.rendered.pretraining import pretrain
from svllreid.rendered.recipe import Recipe

from ..conftest import draw_person

LATIN = os.fsdecode(b"jos\xe9")  # as Latin-1 spells it


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """The layout of `folder`; no name in it is UTF-8."""
    root = tmp_path_factory.mktemp("names") / LATIN
    for split, pids in (("train", (1, 2, 3, 4)), ("query", (5, 6)), ("gallery", (5, 6))):
        for pid in pids:
            folder = root / split / f"{LATIN}{pid}"
            try:
                folder.mkdir(parents=True)
            except (OSError, UnicodeError):
                pytest.skip("this file system takes UTF-8 names alone")
            for camera in (1, 2):
                draw_person(pid, camera).save(folder / f"{LATIN}_c{camera}.jpg", format="JPEG")
    return root


def test_train_test_and_rank_again(people, small_config, tmp_path):
    config = small_config(
        {
            "DATASETS.NAMES": "folder",
            "DATASETS.ROOT_DIR": str(people),
            "OUTPUT_DIR": str(tmp_path / "run"),
            "DATALOADER.CACHE": "disk",
            "DATALOADER.CACHE_DIR": str(tmp_path / LATIN),
            "SOLVER.STAGE2.IMS_PER_BATCH": 4,
        }
    )
    found = train(config, Options(device="cpu", max_steps=1))
    folder = tmp_path / "run"
    (cache,) = (tmp_path / LATIN).glob("*.u8")
    assert cache.stat().st_size > 0
    assert r"jos\udce9" in (folder / "log.txt").read_text("utf-8")
    with (folder / "queries.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["pid"] for row in rows] == [rf"jos\udce9{pid}" for pid in (5, 5, 6, 6)]
    info = json.loads((folder / "tiny_1.json").read_text("utf-8"))
    assert info["pids"] == [f"{LATIN}{pid}" for pid in (1, 2, 3, 4)]
    assert r"jos\udce9" in (folder / "report.html").read_text("utf-8")
    assert (folder / "ranklist.png").stat().st_size > 1000

    test = config.model_copy(
        update={
            "test": config.test.model_copy(update={"weight": str(folder / "tiny_1.pth")}),
            "output_dir": str(tmp_path / "tested" / LATIN),
        }
    )
    again = run_test(test, Options(device="cpu"), save_features=True)
    assert again["mAP"] == found["mAP"]
    ranked = run_features(tmp_path / "tested" / LATIN / "features.npz", test)
    assert ranked["mAP"] == found["mAP"]


def test_look_at_the_data_where_standard_output_is_strict(people, tmp_path, monkeypatch):
    (people / "train" / f"{LATIN}5").mkdir(exist_ok=True)
    for words in (
        ("describe", "folder", people, "--sheet", tmp_path / f"{LATIN}.png"),
        ("check", "folder", people, "--decode"),
    ):
        monkeypatch.setattr(sys, "argv", ["svllreid", "data", *map(str, words)])
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict"))
        with pytest.raises(SystemExit) as end:
            run()
        sys.stdout.flush()
        assert end.value.code == 0
        said = sys.stdout.buffer.getvalue().decode("utf-8")
        assert r"note: train: identity folders without an image: 1 (jos\udce95)" in said
    assert (tmp_path / f"{LATIN}.png").is_file()


def test_a_run_in_such_a_folder_is_refused_before_anything_is_written(people, small_config, tmp_path):
    folder = tmp_path / LATIN
    with pytest.raises(OutputError, match="name another output folder"):
        train(small_config({"OUTPUT_DIR": str(folder)}))
    with pytest.raises(OutputError, match="name another output folder"):
        pretrain(Recipe(), folder)
    assert not folder.exists()


def test_a_table_may_spell_such_names_out(people, tmp_path):
    path = people / "train" / f"{LATIN}1" / f"{LATIN}_c1.jpg"
    table = tmp_path / "clusters.csv"
    table.write_text(f"path,pid,split\n{path},1,train\n", encoding="utf-8", errors=UNENCODABLE)  # as cluster writes it
    assert [sample.path for sample in read_manifest(table).train] == [path]
    assert [image.path for image in list_images(table)[0]] == [path]

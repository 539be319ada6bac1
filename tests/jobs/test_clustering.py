"""`svllreid cluster`: features or images to a manifest of clusters that is read again, with sheets to look through."""

import csv
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from svllreid.build.model import build_model
from svllreid.cli.main import run
from svllreid.clustering.cluster import ClusterOptions
from svllreid.data.readers.listed_images import list_images
from svllreid.data.readers.manifest import read_manifest
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import DatasetError, EvaluationError, GalleryError, OutputError
from svllreid.evaluation.table_file import TableBlock, write_table
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.milvus import MilvusStore
from svllreid.gallery.record import GalleryRecord
from svllreid.jobs import cluster_sheets
from svllreid.jobs.clustering import COLUMNS, SourceOptions, cluster_to_file
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint

SPEC = EmbeddingSpec("a" * 64, 8, (8, 4), (0.5,) * 3, (0.5,) * 3, "before", False, True, False, False, 0.0, "", "32")
OPTIONS = ClusterOptions(k1=4, k2=2)


@pytest.fixture
def crops(tmp_path):
    """Three people with five images each by two cameras, and an image of nobody; two images are seen at once."""
    random = np.random.default_rng(0)
    paths = []
    for row in range(16):
        paths.append(tmp_path / "crops" / f"{row:02d}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 8, 3), np.uint8)).save(paths[-1])
    vectors = np.concatenate([np.repeat(np.eye(8)[:3], 5, axis=0), np.eye(8)[5:6]]).astype(np.float32)
    return (
        paths,
        {
            "path": np.array([str(path) for path in paths]),
            "pid": np.array([*np.repeat(["ann", "bob", "eve"], 5), ""]),
            "camid": np.arange(16) % 2,
            "time": np.arange(16) + 0.25,
        },
        vectors,
    )


def written(tmp_path, columns, vectors, name="features.npz"):
    write_table(tmp_path / name, [TableBlock(columns, vectors)], SPEC)
    return tmp_path / name


@pytest.mark.parametrize("name", ["features.npz", "features.parquet"])
def test_clusters_are_a_manifest(tmp_path, crops, name):
    _, columns, vectors = crops
    output = tmp_path / "new" / "clusters.csv"
    summary = cluster_to_file(written(tmp_path, columns, vectors, name), output, OPTIONS)
    with output.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["pid"] for row in rows] == [f"c0000{n}" for n in np.repeat(range(3), 5)] + [""]
    assert rows[1] == {
        "path": "../crops/01.png", "pid": "c00000", "split": "train", "camid": "1", "time": "1.25", "tracklet": "",
        "cluster": "c00000",
    }  # fmt: skip
    splits = read_manifest(output)
    assert len(splits.train) == 15 and splits.notes[0] == "1 rows of train with an empty pid are left out"
    assert json.loads((tmp_path / "new" / "clusters.json").read_text()) == summary
    assert summary["agreement"]["adjusted_rand_index"] == 1 and summary["agreement"]["images"] == 15
    assert (summary["clusters"], summary["unclustered"]) == (3, 1)
    assert summary["embedding"]["fingerprint"] == SPEC.fingerprint
    images, _ = list_images(output)
    assert {image.time for image in images} == set(columns["time"])


def test_a_person_merges_splits_and_drops_in_one_column(tmp_path, crops):
    _, columns, vectors = crops
    output = tmp_path / "clusters.csv"
    cluster_to_file(written(tmp_path, columns, vectors), output, OPTIONS)
    lines = output.read_text().splitlines()
    lines[6:11] = [line.replace(",c00001,", ",c00000,", 1) for line in lines[6:11]]
    lines[11] = lines[11].replace(",c00002,", ",,", 1)
    lines[12] = lines[12].replace(",c00002,", ",eve,", 1)
    output.write_text("\n".join(lines))
    train = read_manifest(output).train
    assert [[sample.pid for sample in train].count(pid) for pid in ("c00000", "c00002", "eve")] == [10, 3, 1]


def test_cameras_are_written_if_all_are_known(tmp_path, crops, capsys):
    _, columns, vectors = crops
    columns["camid"][3] = -1
    columns["pid"][:] = ""
    output = tmp_path / "clusters.csv"
    summary = cluster_to_file(written(tmp_path, columns, vectors), output, OPTIONS)
    assert summary["agreement"] is None
    assert {sample.camid for sample in read_manifest(output).train} == {-1}
    assert "cameras are left out of the file, since 1 images have none" in capsys.readouterr().err


def test_simultaneous_images_and_tracklets_are_counted(tmp_path, crops, capsys):
    _, columns, vectors = crops
    columns["time"][:4], columns["camid"][:4] = [1, 1, 2, 2], 0
    columns["tracklet"] = np.array(["a", "b", "a", "b", *[""] * 12])
    summary = cluster_to_file(
        written(tmp_path, columns, vectors), tmp_path / "c.csv", ClusterOptions(min_samples=2, k1=4, k2=2)
    )
    assert (summary["tracklets"], summary["pairs_apart"], summary["clusters_split"]) == (2, 1, 1)
    assert "1 clusters held such a pair and were split" in capsys.readouterr().err
    with (tmp_path / "c.csv").open(newline="") as file:
        labels = {row["tracklet"]: row["pid"] for row in csv.DictReader(file)}
    assert labels["a"] != labels["b"]


def test_sheets(tmp_path, crops):
    paths, columns, vectors = crops
    paths[2].write_bytes(b"no image")
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets" / "cat.png").touch()
    features = written(tmp_path, columns, vectors)
    cluster_to_file(features, tmp_path / "c.csv", OPTIONS, sheets=tmp_path / "sheets")
    (tmp_path / "sheets" / "c00009.png").touch()
    cluster_to_file(features, tmp_path / "c.csv", OPTIONS, sheets=tmp_path / "sheets", fresh=True)
    names = sorted(file.name for file in (tmp_path / "sheets").iterdir())
    assert names == ["c00000.png", "c00001.png", "c00002.png", "cat.png", "index.html"], "an older picture is gone"
    page = (tmp_path / "sheets" / "index.html").read_text()
    assert re.findall(r'src="(.*?)"', page) == ["c00000.png", "c00001.png", "c00002.png"]
    assert "../c.csv" in page and "http" not in page.replace("http-equiv", "")


def test_captions_have_the_row_of_the_manifest(tmp_path, crops, monkeypatch):
    """A person who sees a wrong image has to find its row, in which the pid is corrected."""
    captions, draw = {}, cluster_sheets.draw_cluster

    def spy(path, images, *rest):
        captions.update(images)
        return draw(path, images, *rest)

    monkeypatch.setattr(cluster_sheets, "draw_cluster", spy)
    _, columns, vectors = crops
    order = np.random.default_rng(1).permutation(16)
    columns = {name: values[order] for name, values in columns.items()}
    features = written(tmp_path, columns, vectors[order])
    cluster_to_file(features, tmp_path / "c.csv", OPTIONS, sheets=tmp_path / "sheets")
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert len(captions) == 15
    for path, caption in captions.items():
        row = int(re.fullmatch(r"row (\d+)\nc[01] -?\d\.\d\d", caption)[1])
        assert lines[row - 1].startswith(f"crops/{path.name},")


def test_files_of_others_are_not_replaced_by_sheets(tmp_path, crops):
    """Crops may be named as sheets are: they were overwritten and removed."""
    _, columns, vectors = crops
    features = written(tmp_path, columns, vectors)
    for name in ("c00000.png", "index.html"):
        folder = tmp_path / name[0]
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(OutputError, match=rf"{re.escape(name)} would be replaced.*; name another folder"):
            cluster_to_file(features, tmp_path / "c.csv", OPTIONS, sheets=folder)
        assert (folder / name).read_text() == "mine"
    with pytest.raises(OutputError, match=r"features\.npz is a file; name a folder"):
        cluster_to_file(features, tmp_path / "c.csv", OPTIONS, sheets=features)
    (tmp_path / "c.json").write_text("mine")
    with pytest.raises(OutputError, match=r"c\.json is there already; name another output"):
        cluster_to_file(features, tmp_path / "c.csv", OPTIONS)
    assert not (tmp_path / "c.csv").exists() and (tmp_path / "c.json").read_text() == "mine"


def test_images_are_embedded(tmp_path, crops, small_config):
    config = small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": False})
    info = CheckpointInfo(
        config=config.to_yaml_tree(), num_classes=2, num_cameras=1, num_views=1, pids=[1, 2], stage=2, epoch=1,
        version="0",
    )  # fmt: skip
    model = build_model(config, num_classes=2)
    save_checkpoint(tmp_path / "model.pth", model, info, model.state_dict())
    paths, _, _ = crops
    paths[0].write_bytes(b"no image")
    reading = SourceOptions(tmp_path / "model.pth", "cpu", skip_unreadable=True)
    summary = cluster_to_file(tmp_path / "crops", tmp_path / "c.csv", OPTIONS, reading)
    assert summary["images"] == 15 and len((tmp_path / "c.csv").read_text().splitlines()) == 16


def test_corrections_are_not_replaced(tmp_path, crops):
    _, columns, vectors = crops
    features, output = written(tmp_path, columns, vectors), tmp_path / "c.csv"
    cluster_to_file(features, output, OPTIONS)
    output.write_text(output.read_text().replace("c00000", "anna"))
    with pytest.raises(OutputError, match="may have been corrected by hand"):
        cluster_to_file(features, output, OPTIONS)
    assert "anna" in output.read_text()
    cluster_to_file(features, output, OPTIONS, fresh=True)
    assert "anna" not in output.read_text()


def test_the_crops_of_a_gallery(tmp_path, crops):
    _, columns, vectors = crops
    table = TableBlock({**columns, "path": np.array([*columns["path"][:-1], ""])}, vectors)
    store = MilvusStore(tmp_path / "people.db")
    store.create(GalleryRecord(SPEC))
    store.close()
    with Gallery(tmp_path / "people.db") as gallery:
        gallery.add_features([table], SPEC)
    summary = cluster_to_file(str(tmp_path / "people.db"), tmp_path / "c.csv", OPTIONS)
    assert (summary["images"], summary["clusters"], summary["agreement"]["adjusted_rand_index"]) == (15, 3, 1)
    assert len(read_manifest(tmp_path / "c.csv").train) == 15


def test_what_cannot_be_clustered_is_one_message(tmp_path, crops):
    _, columns, vectors = crops
    features = written(tmp_path, columns, vectors)
    for source, output, error, message in (
        (tmp_path / "crops", "c.csv", DatasetError, "holds images, which need a model"),
        (features, "c.parquet", OutputError, "clusters are written as .csv"),
        ("people.db", "c.csv", GalleryError, "there is no such gallery"),
        (tmp_path / "absent.npz", "c.csv", DatasetError, "absent.npz"),
    ):
        with pytest.raises(error, match=message):
            cluster_to_file(source, tmp_path / output, OPTIONS)
    np.savez(tmp_path / "other.npz", q_feats=vectors)
    with pytest.raises(EvaluationError, match="has no array vectors, it has q_feats"):
        cluster_to_file(tmp_path / "other.npz", tmp_path / "c.csv", OPTIONS)
    assert not (tmp_path / "c.csv").exists()


def test_the_command_line(tmp_path, crops, monkeypatch, capsys):
    _, columns, vectors = crops
    features = written(tmp_path, columns, vectors)
    words = ["cluster", str(features), "-o", str(tmp_path / "c.csv"), "--k1", "4", "--method", "hdbscan"]
    monkeypatch.setattr(sys, "argv", ["svllreid", *words])
    with pytest.raises(SystemExit) as end:
        run()
    printed = capsys.readouterr().out
    assert end.value.code == 0 and "adjusted Rand index" in printed and "1.000" in printed
    monkeypatch.setattr(sys, "argv", ["svllreid", "cluster", str(tmp_path / "crops"), "-o", "c.csv"])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 2 and "(--weights)" in capsys.readouterr().err

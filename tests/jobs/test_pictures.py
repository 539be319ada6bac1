"""Test images that are the same picture: out of their query's ranking, and said; pictures of noise find nobody."""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from svllreid import load_config
from svllreid.build import build_splits
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import evaluate_protocol
from svllreid.jobs.demo import raw_pixels
from svllreid.jobs.pictures import with_pictures
from svllreid.jobs.preparing import Options, load_splits, load_test_splits
from svllreid.runtime.progress import LiveReport

PEOPLE = 6


def noise(path, seed):
    """A picture of nothing but noise; BMP, so that all files are of equal size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def report():
    return LiveReport(Console(file=io.StringIO()))


def measured(name, root, **keys):
    """The splits as `svllreid test` makes them, with the metrics of their raw pixels."""
    overrides = {"DATASETS.NAMES": name, "DATASETS.ROOT_DIR": str(root), **keys}
    splits = with_pictures(build_splits(load_config(overrides=overrides)), report())
    return splits, metrics(splits)


def metrics(splits):
    features = FeatureSet.of(splits, raw_pixels(splits.query, (8, 4)), raw_pixels(splits.gallery, (8, 4)))
    return evaluate_protocol(features).metrics


@pytest.fixture
def strangers(tmp_path):
    """Two pictures of noise for each identity, one in query and one in gallery: nobody can be found."""
    root = tmp_path / "data"
    for pid in range(PEOPLE):
        noise(root / "query" / f"p{pid}" / "query.bmp", pid)
        noise(root / "gallery" / f"p{pid}" / "other.bmp", 100 + pid)
        noise(root / "train" / f"p{pid}" / "learned.bmp", 200 + pid)
    return root


def link_files(make):
    def into_gallery(root):
        for pid in range(PEOPLE):
            make(root / "query" / f"p{pid}" / "query.bmp", root / "gallery" / f"p{pid}" / "again.bmp")

    return into_gallery


def link_folders(root):
    """The gallery lists the query's folder of each identity under another name."""
    shutil.rmtree(root / "gallery")
    (root / "hidden").mkdir()
    for pid in range(PEOPLE):
        noise(root / "query" / f"p{pid}" / "other.bmp", 100 + pid)
    (root / "gallery").symlink_to(root / "query", target_is_directory=True)


WAYS = {
    "copy": link_files(shutil.copy),
    "hard link": link_files(os.link),
    "symbolic link": link_files(lambda a, b: b.symlink_to(a)),
    "linked folder": link_folders,
}


@pytest.mark.parametrize("way", WAYS)
def test_noise_finds_nobody_where_the_gallery_holds_the_query(strangers, way):
    _, alone = measured("folder", strangers)
    assert alone["rank1"] < 1
    WAYS[way](strangers)
    splits, found = measured("folder", strangers)
    queries = 2 * PEOPLE if way == "linked folder" else PEOPLE
    assert splits.protocol == "leave-self-out" and found["num_valid_queries"] == queries
    assert found["rank1"] < 1
    assert splits.notes[-1] == (
        f"{queries} gallery images ({queries} of them in files of their own: copies or links) are left out of the "
        f"rankings of {queries} queries: they are the query's own picture"
    )


def manifest(root, gallery):
    rows = ["path,pid,split"]
    for pid in range(PEOPLE):
        rows.append(f"data/query/p{pid}/query.bmp,{pid},query")
        rows += [f"{path.format(pid)},{pid},gallery" for path in gallery]
    file = root.parent / "list.csv"
    file.write_text("\n".join(rows))
    return file


@pytest.mark.parametrize("again", ["data/query/p{}/query.bmp", "data/gallery/p{}/again.bmp", "linked/p{}/query.bmp"])
def test_noise_finds_nobody_in_a_manifest(strangers, again):
    WAYS["copy"](strangers)
    (strangers.parent / "linked").symlink_to(strangers / "query", target_is_directory=True)
    _, alone = measured("manifest", manifest(strangers, ["data/gallery/p{}/other.bmp"]))
    splits, found = measured("manifest", manifest(strangers, ["data/gallery/p{}/other.bmp", again]))
    assert found["rank1"] == alone["rank1"] < 1
    assert "are left out of the rankings of 6 queries" in splits.notes[-1]
    assert ("copies or links" in splits.notes[-1]) is (not again.startswith("data/query"))


def test_noise_finds_nobody_in_joined_sets_and_held_out_identities(strangers, tmp_path):
    WAYS["copy"](strangers)
    shutil.copytree(strangers, tmp_path / "more")
    splits, found = measured(["folder", f"folder:{tmp_path / 'more'}"], strangers)
    assert splits.name == "folder+folder#2" and found["rank1"] < 1
    for pid in range(PEOPLE):
        shutil.copy(strangers / f"train/p{pid}/learned.bmp", strangers / f"train/p{pid}/again.bmp")
        noise(strangers / f"train/p{pid}/other.bmp", 300 + pid)
    splits, found = measured("folder", strangers, **{"DATASETS.VAL_IDENTITIES": 0.9})
    assert len(splits.query) == 5 and found["rank1"] < 1
    # Of three files two are one picture: the query's copy is in the gallery, or its picture stands there alone.
    assert any("left out of the rankings" in note for note in splits.notes)


def test_the_picture_under_another_identity_counts_as_wrong_and_is_named(strangers):
    shutil.copy(strangers / "query/p0/query.bmp", strangers / "gallery/p1/wrong.bmp")
    splits, _ = measured("folder", strangers)
    assert splits.notes[-1].startswith(
        "1 gallery images are the picture of a query, under another identity, and count as wrong: "
    )
    assert "p0/query.bmp (p0) = " in splits.notes[-1] and "p1/wrong.bmp (p1)" in splits.notes[-1]


def test_jobs_prepare_pictures_for_training_and_testing(strangers):
    WAYS["copy"](strangers)
    config = load_config(overrides={"DATASETS.NAMES": "folder", "DATASETS.ROOT_DIR": str(strangers)})
    for splits in (load_splits(config, Options(), report()), *load_test_splits(config, Options(), report()).values()):
        assert splits.pictures and "left out of the rankings" in splits.notes[-1]


def test_saved_features_remember_the_pictures(strangers, tmp_path):
    WAYS["copy"](strangers)
    splits, found = measured("folder", strangers)
    features = FeatureSet.of(splits, raw_pixels(splits.query, (8, 4)), raw_pixels(splits.gallery, (8, 4)))
    features.save(tmp_path / "features.npz")
    shutil.rmtree(strangers)
    assert evaluate_protocol(FeatureSet.load(tmp_path / "features.npz")).metrics == found


def cameras(root):
    """The same people with cameras: queries by camera 1; again by camera 1 or 2 where asked for below."""
    for path in sorted(root.rglob("*.bmp")):
        camera = 1 if path.parts[-3] == "query" else 2
        path.rename(path.with_name(f"{path.stem}_c{camera}.bmp"))
    return root


def test_cross_camera_stays_as_published_and_warns(strangers):
    cameras(strangers)
    for pid in range(PEOPLE):
        shutil.copy(strangers / f"query/p{pid}/query_c1.bmp", strangers / f"gallery/p{pid}/again_c1.bmp")
    splits, alone = measured("folder", strangers)
    assert splits.protocol == "cross-camera" and splits.notes == () and splits.pictures == {}
    for pid in range(2):
        shutil.copy(strangers / f"query/p{pid}/query_c1.bmp", strangers / f"gallery/p{pid}/again_c2.bmp")
    splits, found = measured("folder", strangers)
    assert splits.notes[-1].startswith(
        "2 queries are in the gallery too, the same picture under another camera, which flatters the numbers: "
    )
    assert "p0/query_c1.bmp (p0) = " in splits.notes[-1] and splits.pictures == {}
    assert found["rank1"] >= max(alone["rank1"], 2 / PEOPLE), "published: both stay in"


def test_repeated_pictures_of_vehicleid_are_pointed_out(tmp_path):
    base = tmp_path / "VehicleID_V1.0"
    for number in range(4):
        noise(base / "image" / f"{number}.bmp", number)
    shutil.copy(base / "image/2.bmp", base / "image/4.bmp")
    (base / "train_test_split").mkdir()
    (base / "train_test_split/train_list.txt").write_text("0 7\n1 7\n")
    (base / "train_test_split/test_list_800.txt").write_text("2 8\n3 8\n4 8\n")
    config = load_config(overrides={"DATASETS.NAMES": "VehicleID", "DATASETS.ROOT_DIR": str(tmp_path)})
    assert with_pictures(build_splits(config), report()).notes[-1] == (
        "1 test images repeat a picture of their identity, which flatters the numbers"
    )

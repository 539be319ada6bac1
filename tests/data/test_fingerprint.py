"""What changes the fingerprint of a split, and what does not."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from svllreid.data.fingerprint import fingerprint, listings
from svllreid.data.readers.folder import read_folder
from svllreid.data.readers.manifest import read_manifest
from svllreid.types import Sample, Splits

SAMPLES = [
    Sample(Path("root/train/anna/1.jpg"), "anna", 0),
    Sample(Path("root/train/bob/1.jpg"), "bob", 1),
    Sample(Path("root/train/bob/2.jpg"), "bob", 0),
]


def moved(samples, place):
    return [replace(s, path=Path(place, *s.path.parts[1:])) for s in samples]


def test_place_and_order_do_not_matter(monkeypatch, tmp_path):
    expected = fingerprint(SAMPLES)
    assert fingerprint(moved(SAMPLES, "/elsewhere/a/b")) == fingerprint(SAMPLES[::-1]) == expected
    assert fingerprint([replace(s, path=s.path.absolute()) for s in SAMPLES[:1]] + SAMPLES[1:]) == expected
    monkeypatch.chdir(tmp_path)
    assert fingerprint(SAMPLES) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, path=s.path.with_name("3.jpg")),
        lambda s: replace(s, path=s.path.parents[1] / "carl" / s.path.name),
        lambda s: replace(s, pid="carl"),
        lambda s: replace(s, camid=7),
        lambda s: replace(s, viewid=0),
    ],
    ids=["name", "folder", "identity", "camera", "view"],
)
def test_names_identities_cameras_and_views_matter(change):
    assert fingerprint([*SAMPLES[:2], change(SAMPLES[2])]) != fingerprint(SAMPLES)
    assert fingerprint(SAMPLES[:2]) != fingerprint(SAMPLES)


def test_names_of_another_encoding():
    assert fingerprint([Sample(Path("a/b\udce9.jpg"), 1)]) != fingerprint([Sample(Path("a/b.jpg"), 1)])


def test_each_split_has_its_own_and_empty_ones_none():
    splits = Splits("folder", tuple(SAMPLES), tuple(SAMPLES[:1]), ())
    assert listings(splits) == {"train": fingerprint(SAMPLES), "query": fingerprint(SAMPLES[:1])}


def test_a_table_may_lie_beside_its_images_or_elsewhere(tmp_path):
    names = ["train/anna/1_c1.jpg", "train/bob/1_c2.jpg", "query/cid/1_c1.jpg", "gallery/cid/2_c2.jpg"]
    for name in names:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    folder = listings(read_folder(tmp_path / "data"))

    def manifest(place, prefix):
        rows = [f"{prefix}{n},{n.split('/')[1]},{int(n[-5]) - 1},{n.split('/')[0]}" for n in names]
        (tmp_path / place).write_text("\n".join(["path,pid,camid,split", *rows]))
        return listings(read_manifest(tmp_path / place))

    assert manifest("data/list.csv", "") == manifest("list.csv", "data/") == folder
    assert manifest("list.csv", f"{tmp_path}/data/") == folder
    shutil.move(tmp_path / "data", tmp_path / "moved")
    assert listings(read_folder(tmp_path / "moved")) == folder

from pathlib import Path

import pytest
from PIL import Image

from svllreid.data.readers.layout import IMAGE_SUFFIXES, absent, list_folder
from svllreid.errors import DatasetError


def test_absent_lists_each_folder_and_asks_for_no_file_that_is_there(tmp_path, touch, monkeypatch):
    touch(tmp_path, ["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    asked = []
    monkeypatch.setattr(Path, "is_file", lambda path: asked.append(path.name))
    paths = [tmp_path / name for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "c/4.jpg")]
    assert absent(paths) == [tmp_path / "a/3.jpg", tmp_path / "c/4.jpg"]
    assert asked == ["3.jpg", "4.jpg"]


def test_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "images").touch()
    with pytest.raises(DatasetError, match=r"images cannot be read: .*Check the path"):
        list_folder(tmp_path / "images")


def test_links_that_lead_nowhere_are_no_images(tmp_path, touch):
    touch(tmp_path, ["a.jpg"])
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    assert list_folder(tmp_path).images == ("a.jpg",) and list_folder(tmp_path).others == ("gone.jpg", "loop.jpg")
    assert absent([tmp_path / "a.jpg", tmp_path / "loop.jpg"]) == [tmp_path / "loop.jpg"]


# What Pillow knows but reads no picture from: scientific data and videos that it only identifies, drawings that other
# programs draw, and what it only writes.
NO_PICTURES = {
    *(".bufr", ".grib", ".h5", ".hdf", ".mpg", ".mpeg"),
    *(".eps", ".ps", ".wmf", ".emf"),
    *(".pdf", ".palm"),
}
HEIF = {".heic", ".heif", ".hif"}


def test_the_suffixes_of_images_are_those_that_pillow_reads():
    known = set(Image.registered_extensions())
    assert len(set(IMAGE_SUFFIXES)) == len(IMAGE_SUFFIXES)
    assert set(IMAGE_SUFFIXES) - HEIF == known - NO_PICTURES - HEIF
    assert set(IMAGE_SUFFIXES) >= HEIF
    readable = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    assert set(IMAGE_SUFFIXES) - HEIF <= readable | {".mpo"}  # MPO is opened as JPEG

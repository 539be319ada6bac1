from pathlib import Path

import pytest

from svllreid.data.readers.layout import absent, list_images
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
        list_images(tmp_path / "images")

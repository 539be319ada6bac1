"""CUHK03's two sets of images in the layout of the new protocol."""

import pytest

from svllreid.data.readers import read

NAMES = [
    "bounding_box_train/0001_c1_1.png",
    "bounding_box_train/0001_c2_6.png",
    "query/0003_c1_21.png",
    "bounding_box_test/0003_c2_26.png",
]


@pytest.mark.parametrize(("name", "folder"), [("cuhk03_labelled", "labeled"), ("cuhk03_detected", "detected")])
def test_the_named_set_is_read(tmp_path, touch, name, folder):
    other = {"labeled": "detected", "detected": "labeled"}[folder]
    touch(tmp_path / "cuhk03-np" / folder, NAMES)
    touch(tmp_path / "cuhk03-np" / other, [file.replace("0003", "0009") for file in NAMES])
    for root in (tmp_path, tmp_path / "cuhk03-np", tmp_path / "cuhk03-np" / folder):
        splits = read(name, root)
        assert splits.name == name and splits.protocol == "cross-camera" and splits.noun == "person"
        assert [(s.pid, s.camid) for s in splits.train] == [(1, 0), (1, 1)]
        assert [(s.pid, s.camid) for s in (*splits.query, *splits.gallery)] == [(3, 0), (3, 1)]

"""Folders and tables of images that are no dataset."""

import pytest

from svllreid.data.readers.listed_images import list_images
from svllreid.errors import DatasetError


def write(path, text):
    path.write_text(text)
    return path


def test_folders_below_count_and_links_back_do_not(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/x_c2.jpg", "a/b/y.PNG", "z.txt"):
        (tmp_path / name).touch()
    (tmp_path / "a" / "b" / "back").symlink_to(tmp_path)
    (tmp_path / "a" / "up").symlink_to(tmp_path.parent)  # leads to other images
    images, notes = list_images(tmp_path)
    assert [(image.path.name, image.camid, image.pid, image.split) for image in images] == [
        ("y.PNG", -1, "", ""),
        ("x_c2.jpg", 1, "", ""),
    ]
    assert notes == [f"{tmp_path}: files of other kinds passed over: 1 (z.txt)"]


def test_a_folder_with_splits_is_a_dataset(tmp_path):
    for name in ("query/anna/anna_c1_1.jpg", "gallery/anna/anna_c2_1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    images, _ = list_images(tmp_path)
    assert [(image.pid, image.camid, image.split) for image in images] == [("anna", 1, "gallery"), ("anna", 0, "query")]


def test_a_table_needs_a_path_alone(tmp_path):
    images, _ = list_images(write(tmp_path / "t.csv", "path\nb.jpg\na.jpg\n"))
    assert [image.path.name for image in images] == ["a.jpg", "b.jpg"]
    assert (images[0].pid, images[0].camid, images[0].time) == ("", -1, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,time\na.jpg,noon\n", r"line 2: time 'noon' is neither seconds"),
        ("path,split\na.jpg,val\n", r"line 2: split 'val' is none of train, query, gallery"),
        ("path,camid\na.jpg,one\n", r"line 2: camid 'one' is not a whole number"),
        ("path,pid\n,3\n", r"line 2: path is empty"),
        ("name\na.jpg\n", r"lacks the columns path"),
        ("path\n", r"holds no image"),
        ("path,camid\na.jpg,-15\n", r"line 2: camid '-15' is not a whole number"),
        ("path,camid\na.jpg,99999999999999999999\n", r"line 2: camid '9+' is above"),
        ("path,pid\na,b.jpg,3\n", r"line 2: 3 fields, more than there are columns"),
        ("path,time\na.jpg,1777638600123\n", r"line 2: time '\d+' is beyond the years 1 to 9999; .* not milliseconds"),
    ],
)
def test_faulty_tables(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        list_images(write(tmp_path / "t.csv", text))


def test_tracklets_of_a_table_and_times_in_names(tmp_path):
    images, _ = list_images(write(tmp_path / "t.csv", "path,tracklet\na.jpg,7\nb.jpg,\n"))
    assert [image.tracklet for image in images] == ["7", ""]
    (tmp_path / "crops").mkdir()
    for name in ("a_c1_t1777638600.25.jpg", "b_t1777638600.jpg", "c_t5_c2.jpg", "d_t177763860012.jpg"):
        (tmp_path / "crops" / name).touch()
    images, _ = list_images(tmp_path / "crops")
    assert [(image.camid, image.time) for image in images] == [
        (0, 1777638600.25),
        (-1, 1777638600.0),
        (1, None),
        (-1, None),
    ]


def test_columns_that_may_be_meant_for_others_are_named(tmp_path):
    images, notes = list_images(
        write(tmp_path / "t.csv", "path,Camera,identity,tracklets,colour\na.jpg,1,anna,5,red\n")
    )
    assert (images[0].camid, images[0].pid) == (-1, "")
    (note,) = notes
    assert "camera (rename it to camid " in note and "identity (rename it to pid " in note
    assert "tracklets (rename it to tracklet " in note and "colour" not in note


def test_identities_are_spelled_as_their_folders_are(tmp_path):
    for name in ("query/007/a_c1.jpg", "gallery/007/b_c2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert {image.pid for image in list_images(tmp_path)[0]} == {"007"}


def test_cameras_in_the_names_of_any_folder(tmp_path):
    (tmp_path / "a_c0.jpg").touch()
    images, notes = list_images(tmp_path)
    assert images[0].camid == -1 and "name camera 0" in notes[0] and "1 (a_c0.jpg)" in notes[0]
    (tmp_path / f"b_c{'9' * 20}.jpg").touch()
    with pytest.raises(DatasetError, match=r"1 images of .* have a camera number above"):
        list_images(tmp_path)

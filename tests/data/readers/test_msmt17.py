import pytest

from svllreid.data.readers.msmt17 import read_msmt17
from svllreid.errors import DatasetError

LISTS = {
    "list_train.txt": "0001/0001_001_14_0303morning_0015_1.jpg 1\n0000/0000_000_01_0303morning_0015_0.jpg 0\n",
    "list_val.txt": "\ufeff0000/0000_001_02_0303noon_0015_0.jpg 0  \r\n\r\n",
    "list_query.txt": "0000/0000_000_15_0303morning_0015_0.jpg 0\n",
    "list_gallery.txt": "0000/0000_001_03_0303morning_0015_0.jpg 0\n",
}


@pytest.fixture
def lay(tmp_path, touch):
    """Writes MSMT17 with all listed images, in folders of the given names."""

    def write(train="train", test="test"):
        dataset = tmp_path / "MSMT17"
        for name, text in LISTS.items():
            folder = train if name in ("list_train.txt", "list_val.txt") else test
            touch(dataset / folder, [line.split()[0].strip("\ufeff") for line in text.splitlines() if line.strip()])
            (dataset / name).write_text(text, encoding="utf-8", newline="")
        return dataset

    return write


def test_train_is_train_and_val_sorted_with_cameras_from_zero(tmp_path, lay):
    dataset = lay()
    splits = read_msmt17(tmp_path)
    assert [(s.path.relative_to(dataset).as_posix(), s.pid, s.camid) for s in splits.train] == [
        ("train/0000/0000_000_01_0303morning_0015_0.jpg", 0, 0),
        ("train/0000/0000_001_02_0303noon_0015_0.jpg", 0, 1),
        ("train/0001/0001_001_14_0303morning_0015_1.jpg", 1, 13),
    ]
    assert [(s.path.parts[-3], s.pid, s.camid) for s in splits.query + splits.gallery] == [
        ("test", 0, 14),
        ("test", 0, 2),
    ]
    assert (splits.protocol, splits.noun) == ("cross-camera", "person")
    assert read_msmt17(dataset) == splits


def test_lists_written_with_back_slashes(tmp_path, lay):
    dataset = lay()
    plain = read_msmt17(tmp_path)
    for name, text in LISTS.items():
        (dataset / name).write_text(text.replace("/", "\\"), encoding="utf-8", newline="")
    assert read_msmt17(tmp_path) == plain


def test_an_image_listed_twice_counts_once_and_under_two_identities_is_refused(tmp_path, lay):
    dataset = lay()
    plain = read_msmt17(tmp_path)
    (dataset / "list_val.txt").write_text(LISTS["list_val.txt"] + LISTS["list_train.txt"], encoding="utf-8")
    assert read_msmt17(tmp_path) == plain
    (dataset / "list_val.txt").write_text("0000/0000_000_01_0303morning_0015_0.jpg 1\n")
    with pytest.raises(DatasetError, match=r"1 images more than one identity: 0000_000_01_0303morning_0015_0\.jpg"):
        read_msmt17(tmp_path)


def test_identities_beyond_64_bits_are_text(tmp_path, lay):
    dataset = lay()
    (dataset / "list_gallery.txt").write_text(LISTS["list_gallery.txt"].replace(".jpg 0", f".jpg {2**63}"))
    splits = read_msmt17(tmp_path)
    assert {s.pid for s in splits.train} == {0, 1}
    assert [s.pid for s in splits.query + splits.gallery] == ["0", str(2**63)]


def test_camera_that_fits_no_array_is_an_error(tmp_path, lay, touch):
    dataset = lay()
    touch(dataset / "test", [f"0000/0000_000_{2**63}_x_0.jpg"])
    (dataset / "list_query.txt").write_text(f"0000/0000_000_{2**63}_x_0.jpg 0\n")
    with pytest.raises(DatasetError, match=r"1 images of .*list_query\.txt have a camera number above 92233"):
        read_msmt17(tmp_path)


def test_version_2_is_told_by_its_folders(tmp_path, lay):
    lay("mask_train_v2", "mask_test_v2")
    splits = read_msmt17(tmp_path)
    assert splits.train[0].path.parts[-3] == "mask_train_v2"
    assert splits.notes[0].startswith("MSMT17 V2 (mask_train_v2)")


def test_version_1_cannot_be_told_from_renamed_folders(tmp_path, lay):
    lay()
    assert read_msmt17(tmp_path).notes == ("MSMT17 V1, or V2 renamed, which folders named train and test cannot tell",)


def test_link_named_train_to_version_2_is_seen_through(tmp_path, lay):
    dataset = lay("mask_train_v2", "mask_test_v2")
    (dataset / "train").symlink_to(dataset / "mask_train_v2")
    (dataset / "test").symlink_to(dataset / "mask_test_v2")
    assert read_msmt17(tmp_path).notes[0].startswith("MSMT17 V2")


def test_both_versions_side_by_side_is_said(tmp_path, lay):
    lay("mask_train_v2", "mask_test_v2")
    lay()
    splits = read_msmt17(tmp_path)
    assert splits.train[0].path.parts[-3] == "train"
    assert splits.notes[0].endswith("mask_train_v2 lies beside it and is not read")


def test_partial_unzip_counts_and_shows_the_absent(tmp_path, lay):
    dataset = lay()
    (dataset / "train/0001/0001_001_14_0303morning_0015_1.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"1 of the 2 images that .*list_train\.txt names are absent: .*partial unzip"
    ):
        read_msmt17(tmp_path)


def test_whole_identity_absent(tmp_path, lay):
    dataset = lay()
    (dataset / "test/0000").rename(dataset / "test/0009")
    with pytest.raises(DatasetError, match=r"1 of the 1 images that .*list_query\.txt"):
        read_msmt17(tmp_path)


def test_missing_list_and_missing_folder(tmp_path, lay):
    dataset = lay()
    (dataset / "list_val.txt").unlink()
    with pytest.raises(DatasetError, match=r"list_val\.txt is missing; it holds list_gallery"):
        read_msmt17(tmp_path)
    (dataset / "test").rename(dataset / "tset")
    with pytest.raises(DatasetError, match=r"test is missing; looked in .*it holds .*tset"):
        read_msmt17(tmp_path)
    (dataset / "train").rename(dataset / "nirt")
    with pytest.raises(DatasetError, match=r"neither train and test nor mask_train_v2"):
        read_msmt17(tmp_path)


@pytest.mark.parametrize(
    "text", ["0000/a_b_01_c.jpg zero\n", "0000/a_b_01_c.jpg\n", "0000/a_b_01_c.jpg -1\n", "0000/a_b_01_c.jpg ²\n"]
)
def test_bad_line_is_named(tmp_path, lay, text):
    dataset = lay()
    with (dataset / "list_query.txt").open("a", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(DatasetError, match=r"1 lines of .*list_query\.txt are not .*: line 2 '0000/a_b"):
        read_msmt17(tmp_path)


@pytest.mark.parametrize("name", ["0000_000.jpg", "0000_000_00_x.jpg", "0000_000_xx_x.jpg"])
def test_name_without_camera_is_told(tmp_path, lay, name):
    dataset = lay()
    (dataset / "list_query.txt").write_text(f"0000/{name} 0\n")
    with pytest.raises(DatasetError, match=r"1 names in .*list_query\.txt have no camera .*: line 1 0000/"):
        read_msmt17(tmp_path)


def test_empty_list_is_an_error(tmp_path, lay):
    dataset = lay()
    (dataset / "list_gallery.txt").write_text("\r\n")
    with pytest.raises(DatasetError, match=r"list_gallery\.txt lists no image"):
        read_msmt17(tmp_path)

import pytest

from svllreid.data.readers.folder import read_folder
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN

NUMBERED = [
    "train/10/a_c1.jpg",
    "train/9/b_c2s1_1.JPG",
    "query/3/q_c1.png",
    "gallery/3/g_c3.jpg",
    "gallery/3/._g_c3.jpg",
    "gallery/3/notes.txt",
]


def test_numbers_become_pids_and_cameras_count_from_zero(tmp_path, touch):
    touch(tmp_path, NUMBERED)
    splits = read_folder(tmp_path)
    assert [(s.path.name, s.pid, s.camid) for s in splits.train] == [("a_c1.jpg", 10, 0), ("b_c2s1_1.JPG", 9, 1)]
    assert [(s.pid, s.camid) for s in splits.query + splits.gallery] == [(3, 0), (3, 2)]
    assert (splits.protocol, splits.noun) == ("cross-camera", "person")
    assert splits.notes == ("gallery: files of other kinds passed over: 1 (3/notes.txt)",)


def test_noun_is_an_option(tmp_path, touch):
    touch(tmp_path, NUMBERED)
    assert read_folder(tmp_path, noun="vehicle").noun == "vehicle"


def test_one_name_among_the_identities_makes_all_text(tmp_path, touch):
    touch(tmp_path, ["train/7/a.jpg", "train/bob/a.jpg"])
    assert [sample.pid for sample in read_folder(tmp_path).train] == ["7", "bob"]


def test_training_identities_and_those_at_test_have_a_type_of_their_own(tmp_path, touch):
    touch(tmp_path, ["train/7/a.jpg", "query/bob/a.jpg", "gallery/7/a.jpg", "gallery/bob/b.jpg"])
    splits = read_folder(tmp_path)
    assert splits.train[0].pid == 7
    assert [sample.pid for sample in splits.query + splits.gallery] == ["bob", "7", "bob"]


def test_camera_that_fits_no_array_is_an_error(tmp_path, touch):
    touch(tmp_path, [f"train/a/1_c{2**63 - 1}.jpg"])
    assert read_folder(tmp_path).train[0].camid == 2**63 - 2
    touch(tmp_path, [f"train/a/1_c{2**63}.jpg"])
    with pytest.raises(DatasetError, match=r"1 images .* camera number above 9223372036854775807: train/a/1_c9"):
        read_folder(tmp_path)


@pytest.mark.parametrize("other", ["007", "-1", "٨", "9" * 19], ids=["zeros", "minus", "arabic", "huge"])
def test_what_is_no_plain_number_makes_all_text(tmp_path, touch, other):
    touch(tmp_path, ["train/7/a.jpg", f"train/{other}/a.jpg"])
    assert {sample.pid for sample in read_folder(tmp_path).train} == {"7", other}


def test_unknown_cameras_leave_the_query_itself_out(tmp_path, touch):
    touch(tmp_path, ["train/a/1.jpg", "query/b/red_car12_abc3.jpg", "gallery/b/2.jpg"])
    splits = read_folder(tmp_path)
    assert splits.protocol == "leave-self-out"
    assert {sample.camid for sample in splits.train + splits.query + splits.gallery} == {UNKNOWN}
    assert any("leave-self-out" in note for note in splits.notes)


def test_cameras_in_some_names_only_is_an_error(tmp_path, touch):
    touch(
        tmp_path,
        ["train/a/1_c1.jpg", *(f"train/b/{k}.jpg" for k in range(4)), "query/a/1_c1.jpg", "gallery/a/2_c1.jpg"],
    )
    with pytest.raises(DatasetError, match=r"4 of 7 files.*train/b/0\.jpg, train/b/1\.jpg, train/b/2\.jpg, \.\.\."):
        read_folder(tmp_path)


def test_camera_zero_is_an_error(tmp_path, touch):
    touch(tmp_path, ["train/a/1_c0.jpg", "train/a/1_c1.jpg"])
    message = r"1 files .* camera 0: train/a/1_c0\.jpg\. In file names cameras count from 1: _c1 is camid 0"
    with pytest.raises(DatasetError, match=message):
        read_folder(tmp_path)


def test_testing_only_and_training_only(tmp_path, touch):
    touch(tmp_path / "test", NUMBERED[2:])
    touch(tmp_path / "train", NUMBERED[:2])
    test, train = read_folder(tmp_path / "test"), read_folder(tmp_path / "train")
    assert (test.train, len(test.query), test.notes[1:]) == ((), 1, ("no training images: for testing only",))
    assert (train.query, train.gallery) == ((), ())
    assert train.notes == ("no query and gallery images: for training only",)


def test_query_without_gallery_is_an_error(tmp_path, touch):
    touch(tmp_path, NUMBERED[:3])
    with pytest.raises(DatasetError, match=r"query images but no gallery images"):
        read_folder(tmp_path)


def test_no_split_folder_says_what_was_found(tmp_path, touch):
    touch(tmp_path, ["alice/1.jpg", "bob/1.jpg"])
    with pytest.raises(DatasetError, match=r"none of the folders train, query, gallery; it holds alice, bob"):
        read_folder(tmp_path)


def test_split_folder_without_identity_folders_is_an_error(tmp_path, touch):
    touch(tmp_path, ["train/1.jpg", "train/2.jpg"])
    with pytest.raises(DatasetError, match=r"train has no image in a folder of its identity; it holds 1\.jpg, 2\.jpg"):
        read_folder(tmp_path)


def test_images_beside_the_identities_are_counted(tmp_path, touch):
    touch(tmp_path, ["train/a/1.jpg", "train/loose.jpg"])
    splits = read_folder(tmp_path)
    assert len(splits.train) == 1
    assert splits.notes[0] == "train: images in no identity folder left out: 1 (loose.jpg)"


def identities_of(splits):
    return {(sample.pid, sample.path.name) for sample in splits.train}


def test_images_of_every_kind_and_in_sub_folders_are_read(tmp_path, touch):
    files = ["a/1.jpg", "b/1.TIF", "c/1.gif", "d/x/1.jfif", "d/x/y/2.ppm", "e/1.avif", "f/1.heic", "g/morning/1.JP2"]
    touch(tmp_path / "train", files)
    splits = read_folder(tmp_path)
    assert {pid for pid, _ in identities_of(splits)} == set("abcdefg")
    assert len(splits.train) == len(files)
    assert splits.notes[0] == (
        "train: images in sub-folders, taken for the identity of the folder above: 3 (d/x/1.jfif, d/x/y/2.ppm, "
        "g/morning/1.JP2)"
    )


def test_what_is_passed_over_is_counted_and_named(tmp_path, touch):
    touch(
        tmp_path,
        [
            "train/a/1.jpg",
            *(f"train/a/{name}" for name in ("clip.mp4", "deep/a.txt", ".hidden", "Thumbs.db", ".git/x.jpg")),
            "train/b/notes.txt",
            "train/list.csv",
            "val/c/1.jpg",
            "README.md",
            "overview.png",
        ],
    )
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "a" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    splits = read_folder(tmp_path)
    assert identities_of(splits) == {("a", "1.jpg")}
    assert splits.notes[:4] == (
        f"{tmp_path}: folders besides train, query and gallery passed over: 1 (val)",
        f"{tmp_path}: images in none of train, query and gallery left out: 1 (overview.png)",
        "train: identity folders without an image: 2 (b, c)",
        "train: files of other kinds passed over: 5 (list.csv, a/clip.mp4, a/gone.jpg, ...)",
    )


def test_linked_folders_are_followed_once_and_never_to_other_identities(tmp_path, touch):
    touch(tmp_path, ["train/a/x/1.jpg", "train/b/1.jpg", "elsewhere/2.jpg", "elsewhere/deep/3.jpg"])
    links = {"a/more": "elsewhere", "a/again": "elsewhere", "a/loop": "train/a", "a/up": "train", "c": "elsewhere"}
    for link, target in links.items():
        (tmp_path / "train" / link).symlink_to(tmp_path / target, target_is_directory=True)
    found = sorted((sample.pid, sample.path.name) for sample in read_folder(tmp_path).train)
    assert found == [("a", "1.jpg"), ("a", "2.jpg"), ("a", "3.jpg"), ("b", "1.jpg"), ("c", "2.jpg"), ("c", "3.jpg")]

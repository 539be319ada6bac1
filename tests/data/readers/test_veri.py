import pytest

from svllreid.data.readers.veri import read_veri
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN

FILES = [
    "image_train/0001_c001_00016450_0.jpg",
    "image_train/0001_c020_00016460_0.jpg",
    "image_query/0002_c002_00030600_0.jpg",
    "image_test/0002_c002_00030600_0.jpg",
    "image_test/0002_c003_00030610_0.jpg",
]
TRAIN_VIEWS = "/some/where/VeRi/image_train/0001_c020_00016460_0.jpg 12 -1 30 7\r\n\r\n"
TEST_VIEWS = "D:\\VeRi\\image_test\\0002_c002_00030600_0.jpg -1 -1 0  \n"


@pytest.fixture
def dataset(tmp_path, touch):
    touch(tmp_path / "VeRi", FILES)
    return tmp_path / "VeRi"


def write_views(folder, train=TRAIN_VIEWS, test=TEST_VIEWS):
    folder.mkdir(exist_ok=True)
    (folder / "keypoint_train.txt").write_text(train, newline="")
    (folder / "keypoint_test.txt").write_text(test, newline="")


def listed(samples):
    return [(sample.path.name, sample.pid, sample.camid, sample.viewid) for sample in samples]


def test_labels_are_matched_by_base_name(tmp_path, dataset):
    write_views(dataset)
    splits = read_veri(tmp_path)
    assert listed(splits.train) == [("0001_c020_00016460_0.jpg", 1, 19, 7)]
    assert listed(splits.query) == [("0002_c002_00030600_0.jpg", 2, 1, 0)]
    assert listed(splits.gallery) == [
        ("0002_c002_00030600_0.jpg", 2, 1, 0),
        ("0002_c003_00030610_0.jpg", 2, 2, UNKNOWN),
    ]
    assert (splits.protocol, splits.noun) == ("cross-camera", "vehicle")
    assert splits.notes == (
        "1 training images without viewpoint label dropped",
        "1 gallery images without viewpoint label kept, view unknown",
    )
    assert read_veri(dataset) == splits


def test_published_test_drops_unlabelled(tmp_path, dataset):
    write_views(dataset)
    splits = read_veri(tmp_path, drop_unlabelled_test=True)
    assert listed(splits.gallery) == [("0002_c002_00030600_0.jpg", 2, 1, 0)]
    assert splits.notes[-1] == "1 gallery images without viewpoint label dropped"


def test_labels_in_another_folder(tmp_path, dataset):
    write_views(tmp_path / "labels")
    assert listed(read_veri(tmp_path, views_dir=tmp_path / "labels").train) == [("0001_c020_00016460_0.jpg", 1, 19, 7)]


def test_without_labels_every_view_is_unknown_and_nothing_dropped(tmp_path, dataset):
    splits = read_veri(tmp_path)
    assert len(splits.train) == 2
    assert {sample.viewid for sample in splits.train + splits.query + splits.gallery} == {UNKNOWN}
    assert splits.notes == (f"no viewpoint labels in {dataset}: every view unknown",)


def test_labels_asked_for_must_be_there(tmp_path, dataset):
    (tmp_path / "labels").mkdir()
    with pytest.raises(DatasetError, match=r"labels holds neither keypoint_train\.txt nor keypoint_test\.txt"):
        read_veri(tmp_path, views_dir=tmp_path / "labels")
    with pytest.raises(DatasetError, match=r"VeRi holds neither"):
        read_veri(tmp_path, drop_unlabelled_test=True)
    with pytest.raises(DatasetError, match=r"nowhere does not exist"):
        read_veri(tmp_path, views_dir=tmp_path / "nowhere")


def test_one_label_file_of_two_is_an_error(tmp_path, dataset):
    write_views(dataset)
    (dataset / "keypoint_test.txt").unlink()
    with pytest.raises(DatasetError, match=r"keypoint_test\.txt is missing"):
        read_veri(tmp_path)


def test_last_label_of_an_image_counts(tmp_path, dataset):
    write_views(dataset, train=TRAIN_VIEWS + TRAIN_VIEWS.replace("7\r\n", "3\r\n"))
    assert read_veri(tmp_path).train[0].viewid == 3


@pytest.mark.parametrize("view", ["8", "-1", "left", "1.5"])
def test_view_out_of_range_names_the_line(tmp_path, dataset, view):
    write_views(dataset, train=TRAIN_VIEWS + f"image_train/x.jpg 1 2 {view}\n")
    with pytest.raises(DatasetError, match=r"1 lines of .*keypoint_train\.txt are not .*: line 3 "):
        read_veri(tmp_path)


def test_labels_of_other_images_are_an_error(tmp_path, dataset):
    write_views(dataset, train="image_train/9999_c001_00016450_0.jpg 3\n")
    with pytest.raises(DatasetError, match=r"none of the 2 training images has a viewpoint label"):
        read_veri(tmp_path)


def test_missing_folder(tmp_path, dataset):
    (dataset / "image_test").rename(dataset / "image_tset")
    with pytest.raises(DatasetError, match=r"image_test is missing.*image_tset"):
        read_veri(tmp_path)

import pytest

from svllreid.data.readers.vehicleid import read_vehicleid
from svllreid.errors import DatasetError

LISTS = {
    "train_list.txt": "0000002 10\n0000001 9\n",
    "test_list_800.txt": "0000003 5 \r\n0000004 5\r\n\r\n0000005 6\r\n",
    "test_list_2400.txt": "0000003 5\n",
}


@pytest.fixture
def dataset(tmp_path, touch):
    folder = tmp_path / "VehicleID_V1.0"
    touch(folder, [f"image/000000{k}.jpg" for k in range(1, 6)])
    (folder / "train_test_split").mkdir()
    for name, text in LISTS.items():
        (folder / "train_test_split" / name).write_text(text, newline="")
    return folder


def test_all_test_images_are_queries_for_the_protocol_to_draw_from(tmp_path, dataset):
    splits = read_vehicleid(tmp_path)
    assert [(s.path, s.pid, s.camid) for s in splits.train] == [
        (dataset / "image/0000001.jpg", 9, 0),
        (dataset / "image/0000002.jpg", 10, 0),
    ]
    assert [(s.path.name, s.pid, s.camid) for s in splits.query] == [
        ("0000003.jpg", 5, 0),
        ("0000004.jpg", 5, 0),
        ("0000005.jpg", 6, 0),
    ]
    assert splits.gallery == ()
    assert (splits.protocol, splits.noun) == ("vehicleid-10", "vehicle")
    assert read_vehicleid(dataset) == splits


def test_identity_of_one_image_is_kept_for_the_gallery_and_noted(tmp_path, dataset):
    splits = read_vehicleid(tmp_path)
    assert [sample.pid for sample in splits.query].count(6) == 1
    assert "small: 1 identities have one image: in the gallery of every draw, never a query" in splits.notes
    assert any(note.startswith("large: 1 identities") for note in splits.notes)
    with (dataset / "train_test_split/test_list_800.txt").open("a") as file:
        file.write("0000001 6\n")
    assert not any(note.startswith("small") for note in read_vehicleid(tmp_path).notes)


def test_every_size_is_a_part_and_each_image_stands_once(tmp_path, dataset):
    (dataset / "train_test_split/test_list_1600.txt").write_text("0000004 5\n0000002 10\n0000002 10\n")
    splits = read_vehicleid(tmp_path)
    names = {size: [sample.path.stem for sample in part] for size, part in splits.parts.items()}
    assert names == {
        "small": ["0000003", "0000004", "0000005"],
        "medium": ["0000002", "0000004"],
        "large": ["0000003"],
    }
    assert [sample.path.stem for sample in splits.query] == ["0000002", "0000003", "0000004", "0000005"]


def test_absent_sizes_are_noted_and_one_must_be_there(tmp_path, dataset):
    lists = dataset / "train_test_split"
    assert "no test_list_1600.txt: that size is not tested" in read_vehicleid(tmp_path).notes
    for name in ("test_list_800.txt", "test_list_2400.txt"):
        (lists / name).unlink()
    with pytest.raises(DatasetError, match=r"none of test_list_800\.txt, .*2400\.txt; it holds train_list"):
        read_vehicleid(tmp_path)


def test_lists_that_disagree_are_refused(tmp_path, dataset):
    (dataset / "train_test_split/test_list_1600.txt").write_text("0000004 6\n")
    with pytest.raises(DatasetError, match=r"1 images more than one identity: 0000004\.jpg"):
        read_vehicleid(tmp_path)


def test_a_training_image_of_two_identities_is_refused(tmp_path, dataset):
    (dataset / "train_test_split/train_list.txt").write_text("0000002 10\n0000002 9\n")
    with pytest.raises(DatasetError, match=r"1 images more than one identity: 0000002\.jpg"):
        read_vehicleid(tmp_path)


def test_any_image_format_answers_to_a_listed_name(tmp_path, dataset):
    (dataset / "image/0000001.jpg").rename(dataset / "image/0000001.JPG")
    assert read_vehicleid(tmp_path).train[0].path.name == "0000001.JPG"


@pytest.mark.parametrize("written", ["{}.jpg", "{}.JPG", "image/{}.jpg", "..\\image\\{}"])
def test_names_with_their_extension_or_folders_are_understood(tmp_path, dataset, written):
    plain = read_vehicleid(tmp_path)
    for name, text in LISTS.items():
        lines = (line.split() for line in text.splitlines() if line.strip())
        content = "".join(f"{written.format(image)} {pid}\n" for image, pid in lines)
        (dataset / "train_test_split" / name).write_text(content)
    assert read_vehicleid(tmp_path) == plain


def test_a_listed_file_is_taken_where_another_has_its_stem(tmp_path, dataset, touch):
    touch(dataset / "image", ["0000001.jpg.png"])
    (dataset / "train_test_split/train_list.txt").write_text("0000001 9\n0000002.jpg 10\n")
    assert [s.path.name for s in read_vehicleid(tmp_path).train] == ["0000001.jpg", "0000002.jpg"]


def test_identities_beyond_64_bits_are_text(tmp_path, dataset):
    (dataset / "train_test_split/test_list_2400.txt").write_text(f"0000003 5\n0000001 {2**63}\n")
    splits = read_vehicleid(tmp_path)
    assert {s.pid for s in splits.train} == {9, 10}
    assert [s.pid for s in splits.query] == [str(2**63), "5", "5", "6"]
    assert [s.pid for s in splits.parts["small"]] == ["5", "5", "6"]


def test_first_of_two_formats_is_taken(tmp_path, dataset):
    (dataset / "image/0000001.png").touch()
    assert read_vehicleid(tmp_path).train[0].path.name == "0000001.jpg"


def test_partial_unzip_counts_and_shows_the_absent(tmp_path, dataset):
    for k in (3, 5):
        (dataset / f"image/000000{k}.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"2 of the 3 images .*test_list_800\.txt.*absent.*: 0000003, 0000005\. .*partial"
    ):
        read_vehicleid(tmp_path)


def test_bad_line_is_named(tmp_path, dataset):
    (dataset / "train_test_split/train_list.txt").write_text("0000001 9\n0000002\n")
    with pytest.raises(DatasetError, match=r"1 lines of .*train_list\.txt are not .*: line 2 '0000002'"):
        read_vehicleid(tmp_path)


def test_missing_images_folder(tmp_path, dataset):
    (dataset / "image").rename(dataset / "images")
    with pytest.raises(DatasetError, match=r"image is missing; looked in .*it holds images, train_test_split"):
        read_vehicleid(tmp_path)

import pytest

from svllreid.data.readers import read
from svllreid.data.readers.dukemtmc import read_dukemtmc, read_occ_duke
from svllreid.data.readers.market1501 import read_market1501
from svllreid.errors import DatasetError
from svllreid.types import Sample

FOLDER = "Market-1501-v15.09.15"
FILES = [
    "bounding_box_train/0007_c3s3_077419_03.jpg",
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c6s1_000451_03.jpg.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c2s1_001051_01.jpg",
    "bounding_box_test/0000_c4s1_001051_01.jpg",
    "bounding_box_test/-1_c5s1_001051_01.jpg",
]


def listed(samples):
    return [(sample.path.name, sample.pid, sample.camid) for sample in samples]


def test_reads_the_layout_sorted_with_cameras_from_zero_and_distractors_but_no_junk(tmp_path, touch):
    touch(tmp_path / FOLDER, FILES)
    splits = read_market1501(tmp_path)
    assert listed(splits.train) == [
        ("0002_c1s1_000451_03.jpg", 2, 0),
        ("0002_c6s1_000451_03.jpg.jpg", 2, 5),
        ("0007_c3s3_077419_03.jpg", 7, 2),
    ]
    assert splits.query == (Sample(tmp_path / FOLDER / "query/0001_c1s1_001051_00.jpg", 1, 0),)
    assert listed(splits.gallery) == [("0000_c4s1_001051_01.jpg", 0, 3), ("0001_c2s1_001051_01.jpg", 1, 1)]
    assert (splits.name, splits.protocol, splits.noun) == ("market1501", "cross-camera", "person")
    assert splits.notes == ("bounding_box_test: 1 junk images (identity -1) dropped",)


def test_passes_over_what_is_no_image_of_the_set(tmp_path, touch):
    clutter = [
        "Thumbs.db",
        "._0002_c1s1_000451_03.jpg",
        ".hidden.jpg",
        "readme.txt",
        "0009_c1s1_000451_03.jpg/0009_c1s1_000451_03.jpg",
    ]
    touch(tmp_path / FOLDER, FILES + [f"bounding_box_train/{name}" for name in clutter])
    splits = read_market1501(tmp_path)
    assert len(splits.train) == 3
    assert splits.notes[:2] == (
        "bounding_box_train: folders passed over with all they hold: 1 (0009_c1s1_000451_03.jpg)",
        "bounding_box_train: files of other kinds passed over: 1 (readme.txt)",
    )


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".PNG", ".bmp", ".WebP", ".tiff", ".GIF", ".avif"])
def test_takes_every_image_format_in_either_case(tmp_path, touch, suffix):
    touch(tmp_path / FOLDER, [*FILES, f"query/0003_c2s1_001051_00{suffix}"])
    assert len(read_market1501(tmp_path).query) == 2


def test_root_may_be_the_folder_itself_and_not_ascii(tmp_path, touch):
    touch(tmp_path / "données 行人" / FOLDER, FILES)
    above = read_market1501(tmp_path / "données 行人")
    assert read_market1501(str(tmp_path / "données 行人" / FOLDER)) == above


def test_renamed_folder_is_taken_as_root(tmp_path, touch):
    touch(tmp_path / "market", FILES)
    assert len(read_market1501(tmp_path / "market").train) == 3


def test_missing_root_names_what_was_looked_for(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere does not exist.*Market-1501-v15\.09\.15"):
        read_market1501(tmp_path / "nowhere")


def test_root_that_is_an_archive_is_told(tmp_path):
    (tmp_path / "Market.zip").touch()
    with pytest.raises(DatasetError, match=r"Market\.zip is a file.*unpack"):
        read_market1501(tmp_path / "Market.zip")


def test_root_without_the_dataset_says_what_it_holds(tmp_path, touch):
    touch(tmp_path, ["MSMT17/a.txt", "VeRi/a.txt"])
    with pytest.raises(DatasetError, match=r"15\.09\.15 does not exist.*it holds MSMT17, VeRi"):
        read_market1501(tmp_path)


def test_missing_folder_names_it_and_what_was_found(tmp_path, touch):
    touch(tmp_path / FOLDER, [name for name in FILES if not name.startswith("query")])
    with pytest.raises(
        DatasetError, match=r"15\.09\.15/query is missing.*it holds bounding_box_test, bounding_box_train"
    ):
        read_market1501(tmp_path)


def test_empty_split_is_an_error(tmp_path, touch):
    touch(tmp_path / FOLDER, [*FILES[:3], *FILES[4:], "query/Thumbs.db"])
    with pytest.raises(DatasetError, match=r"query holds no image"):
        read_market1501(tmp_path)


def test_split_of_junk_alone_is_an_error(tmp_path, touch):
    touch(tmp_path / FOLDER, [*FILES[:4], FILES[-1]])
    with pytest.raises(DatasetError, match=r"bounding_box_test holds no image"):
        read_market1501(tmp_path)


def test_names_that_break_the_pattern_are_counted_and_shown(tmp_path, touch):
    bad = ["0002.jpg", "0002_c0s1_000451_03.jpg", "0002_cxs1_1.jpg", "person_c1s1_1.jpg"]
    touch(tmp_path / FOLDER, FILES + [f"bounding_box_train/{name}" for name in bad])
    with pytest.raises(DatasetError) as caught:
        read_market1501(tmp_path)
    text = str(caught.value)
    assert "4 of 7 file names" in text
    assert "0002.jpg, 0002_c0s1_000451_03.jpg, 0002_cxs1_1.jpg, ..." in text
    assert "0002_c1s1_000451_03.jpg does" in text


def test_identities_beyond_64_bits_are_text(tmp_path, touch):
    huge = 2**63
    more = [f"query/{huge}_c1s1_000001_00.jpg", f"bounding_box_test/0{huge}_c2s1_000001_00.jpg"]
    touch(tmp_path / FOLDER, [*FILES, *more])
    splits = read_market1501(tmp_path)
    assert {sample.pid for sample in splits.train} == {2, 7}, "training identities stay numbers"
    assert [sample.pid for sample in splits.query] == ["1", str(huge)]
    assert [sample.pid for sample in splits.gallery] == ["0", "1", str(huge)], "leading zeros make no other identity"
    touch(tmp_path / FOLDER, [f"bounding_box_train/{huge - 1}_c1s1_000001_00.jpg"])
    assert {sample.pid for sample in read_market1501(tmp_path).train} == {2, 7, huge - 1}


def test_camera_that_fits_no_array_is_an_error(tmp_path, touch):
    touch(tmp_path / FOLDER, [*FILES, f"query/0003_c{2**63}s1_001051_00.jpg"])
    with pytest.raises(DatasetError, match=r"1 images of .*query have a camera number above 9223372036854775807: 0003"):
        read_market1501(tmp_path)


@pytest.mark.parametrize(
    ("reader", "folder"), [(read_dukemtmc, "DukeMTMC-reID"), (read_occ_duke, "Occluded_Duke")], ids=["duke", "occ_duke"]
)
def test_duke_and_occluded_duke(tmp_path, touch, reader, folder):
    files = [
        "bounding_box_train/0005_c2_f0046985.jpg",
        "query/0007_c8_f0046985.jpg",
        "bounding_box_test/0007_c1_f0046985.jpg",
    ]
    touch(tmp_path / "dukemtmcreid" / folder, files)
    splits = reader(tmp_path)
    assert listed(splits.train + splits.query + splits.gallery) == [
        ("0005_c2_f0046985.jpg", 5, 1),
        ("0007_c8_f0046985.jpg", 7, 7),
        ("0007_c1_f0046985.jpg", 7, 0),
    ]
    assert (splits.protocol, splits.noun) == ("cross-camera", "person")
    assert reader(tmp_path / "dukemtmcreid") == splits
    assert reader(tmp_path / "dukemtmcreid" / folder) == splits


@pytest.mark.real
def test_pku_reid(real_data):
    splits = read("market1501", real_data / "pku_reid")
    assert len({sample.pid for sample in splits.train}) == 62
    assert [len(samples) for samples in (splits.train, splits.query, splits.gallery)] == [992, 48, 144]
    assert {sample.camid for sample in splits.train} == {0, 1}
    assert not {sample.pid for sample in splits.train} & {sample.pid for sample in splits.gallery}
    assert any("another dataset in the same layout" in note for note in splits.notes)

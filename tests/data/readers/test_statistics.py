from dataclasses import replace
from pathlib import Path

import pytest

from svllreid.data.readers import DATASETS, check, read
from svllreid.data.readers.statistics import OTHER, summarise
from svllreid.errors import DatasetError
from svllreid.types import Sample, Splits


def make(published, **changed):
    """Splits whose counts are the published ones, but for those changed."""
    low, _ = published.train_images
    ids, images = changed.get("ids", published.train_ids), changed.get("images", low)
    query, gallery = changed.get("query", published.query), changed.get("gallery", published.gallery)
    cameras = changed.get("cameras", published.cameras)

    path = Path("x.jpg")

    def samples(count, pids):
        some = tuple(Sample(path, k % pids, k % cameras) for k in range(max(pids, cameras)))
        return (some * (count // len(some) + 1))[:count]

    tested = {**published.test_ids, **{part: changed[part] for part in published.test_ids if part in changed}}
    parts = {part: samples(count, count) for part, count in tested.items()}
    query = samples(query, query) if query else max(parts.values(), key=len)
    return Splits("any", samples(images, ids), query, samples(gallery or 0, 750), parts=parts)


PUBLISHED = {name: record.published for name, record in DATASETS.items() if record.published}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_make_no_difference(name):
    assert check(DATASETS[name], make(PUBLISHED[name])) == []


def test_counts_are_those_of_the_table():
    assert PUBLISHED["market1501"].train_images == (12_936, 12_936)
    assert (PUBLISHED["msmt17"].query, PUBLISHED["msmt17"].gallery) == (11_659, 82_161)
    assert PUBLISHED["veri"].train_images == (37_746, 37_781)
    assert set(DATASETS) - set(PUBLISHED) == {"folder", "manifest"}


@pytest.mark.parametrize(
    ("name", "changed", "what", "cause"),
    [
        ("market1501", {"images": 12_000}, "training images", "partial unzip"),
        ("market1501", {"images": 13_000}, "training images", "another version"),
        ("dukemtmc", {"ids": 700}, "training identities", "partial unzip"),
        ("occ_duke", {"cameras": 7}, "cameras", "partial unzip"),
        ("msmt17", {"gallery": 82_160}, "gallery images", "partial unzip"),
        ("veri", {"images": 37_745}, "training images", "partial unzip"),
        ("veri", {"images": 37_782}, "training images", "another version"),
        ("veri", {"gallery": 11_578}, "gallery images", "viewpoint label"),
        ("cuhk03_labelled", {"gallery": 5_332}, "gallery images", "another version"),
        ("VehicleID", {"medium": 1599}, "test identities, medium", "cut short"),
    ],
)
def test_a_count_that_differs_is_reported_with_its_cause(name, changed, what, cause):
    (difference,) = check(DATASETS[name], make(PUBLISHED[name], **changed))
    assert difference.what == what
    assert difference.count == next(iter(changed.values()))
    assert cause in difference.cause
    assert what in str(difference) and cause in str(difference)


def test_removed_distractors_are_told_from_a_partial_unzip():
    splits = make(PUBLISHED["market1501"])
    fewer = replace(splits, gallery=tuple(s for s in splits.gallery if s.pid != 0))
    assert "distractors" in check(DATASETS["market1501"], fewer)[0].cause
    assert "partial unzip" in check(DATASETS["market1501"], replace(splits, gallery=splits.gallery[:-1]))[0].cause


def test_version_2_of_msmt17_is_named_as_cause():
    splits = replace(make(PUBLISHED["msmt17"], query=11_000), notes=("MSMT17 V2 (mask_train_v2)",))
    assert "V1 and V2" in check(DATASETS["msmt17"], splits)[0].cause


def test_where_all_differs_it_is_another_dataset():
    sample = Sample(Path("x.jpg"), 1, 0)
    differences = check(DATASETS["market1501"], Splits("market1501", (sample,), (sample,), (sample,)))
    assert [difference.count for difference in differences] == [1, 1, 1, 1, 1]
    assert {difference.cause for difference in differences} == {OTHER}
    (line,) = summarise(differences)
    assert line.startswith("training identities 1 (published 751), training images 1 (published 12936), ")
    assert line.endswith(OTHER)


def test_own_data_has_no_published_counts():
    assert check(DATASETS["folder"], Splits("folder", (), (), ())) == []


def test_read_adds_the_differences_to_the_notes(tmp_path, touch):
    names = ["bounding_box_train/0002_c1s1_1.jpg", "query/0003_c1s1_1.jpg", "bounding_box_test/0003_c2s1_1.jpg"]
    touch(tmp_path, names)
    (note,) = read("market1501", tmp_path).notes
    assert note.endswith(OTHER)


@pytest.mark.parametrize(
    ("name", "near"),
    [("Market-1501", "market1501"), ("vehicleid", "VehicleID"), ("dukemtmcreid", "dukemtmc"), ("MSMT17_V1", "msmt17")],
)
def test_unknown_name_is_refused_with_the_nearest(tmp_path, name, near):
    with pytest.raises(DatasetError, match=rf"unknown dataset '{name}': did you mean {near}\?.*occ_duke"):
        read(name, tmp_path)


def test_name_like_no_other_lists_the_known(tmp_path):
    with pytest.raises(DatasetError, match=r"unknown dataset 'xyz': known are market1501, .*manifest"):
        read("xyz", tmp_path)


def test_options_reach_the_reader(tmp_path, touch):
    touch(tmp_path, ["train/a/1.jpg"])
    assert read("folder", tmp_path, noun="bird").noun == "bird"
    with pytest.raises(TypeError, match="views_dir"):
        read("folder", tmp_path, views_dir=tmp_path)

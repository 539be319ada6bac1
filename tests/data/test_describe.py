"""The counts of a dataset, each compared with one counted by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from svllreid.data.describe import Spread, describe, unique_images
from svllreid.errors import ImageError
from svllreid.types import UNKNOWN, Sample, Splits


@pytest.fixture
def sample(tmp_path):
    """Makes a sample with an image of the given height and width."""

    def make(name, pid, camid=0, size=(40, 20)):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", size[::-1]).save(path)
        return Sample(path, pid, camid)

    return make


@pytest.fixture
def splits(sample):
    train = [sample("a", 1, 0, (40, 20)), sample("b", 1, 2, (40, 20)), sample("c", 1, 2, (60, 20)), sample("d", 4, 0)]
    return Splits("folder", tuple(train), (sample("q", 2, 0),), (sample("g", 2, 1, (10, 90)), sample("h", 3, UNKNOWN)))


def test_counts_of_each_split(splits):
    counts = describe(splits).splits
    train, gallery = counts["train"], counts["gallery"]
    assert (train.identities, train.images, train.cameras) == (2, 4, 2)
    assert train.per_identity == Spread(low=1, median=2, mean=2, high=3)
    assert list(train.by_camera.items()) == [(0, 2), (2, 2)]
    assert (gallery.identities, gallery.images, gallery.cameras) == (2, 2, 1), "an unknown camera is none"
    assert list(gallery.by_camera.items()) == [(UNKNOWN, 1), (1, 1)]
    assert (counts["query"].identities, counts["query"].images, counts["query"].distractors) == (1, 1, 0)


def test_spread():
    assert Spread.of([9, 1, 2, 4]) == Spread(low=1, median=3, mean=4, high=9)
    assert Spread.of([]) is None


def test_sizes_are_height_and_width(splits):
    sizes = describe(splits).sizes
    assert (sizes.read, sizes.images) == (7, 7)
    assert (sizes.heights.low, sizes.heights.median, sizes.heights.high) == (10, 40, 60)
    assert (sizes.widths.low, sizes.widths.median, sizes.widths.high) == (20, 20, 90)
    assert sizes.frequent == (((40, 20), 5), ((10, 90), 1), ((60, 20), 1))


def test_no_more_than_three_frequent_sizes(sample):
    train = tuple(sample(f"i{height}", 1, 0, (height, 5)) for height in (4, 3, 2, 1))
    frequent = describe(Splits("folder", train, (), ())).sizes.frequent
    assert frequent == (((1, 5), 1), ((2, 5), 1), ((3, 5), 1))


def test_headers_of_a_seeded_sample(sample):
    splits = Splits("folder", tuple(sample(f"i{height}", 1, 0, (height, 5)) for height in range(1, 41)), (), ())
    sizes = describe(splits, seed=1, max_headers=5).sizes
    assert (sizes.read, sizes.images) == (5, 40)
    assert sum(count for _, count in sizes.frequent) == 3
    assert sizes == describe(splits, seed=1, max_headers=5).sizes
    assert sizes != describe(splits, seed=2, max_headers=5).sizes


def test_no_pixels_are_decoded(splits):
    path = splits.train[0].path
    Image.effect_noise((200, 300), 50).save(path.with_suffix(".jpg"))
    whole = path.with_suffix(".jpg").read_bytes()
    path.with_suffix(".jpg").write_bytes(whole[: len(whole) // 2])
    cut = replace(splits.train[0], path=path.with_suffix(".jpg"))
    assert describe(replace(splits, train=(cut,))).sizes.heights.high == 300


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_broken_image_is_named(splits, content):
    path = splits.query[0].path
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ImageError, match=r"q\.png cannot be read as an image"):
        describe(splits)


def test_shared_identities_are_named_in_order(splits, sample):
    assert describe(splits).shared == ()
    both = (*splits.train, sample("e", 3), sample("f", 2))
    assert describe(replace(splits, train=both)).shared == (2, 3)


def test_shared_identities_are_seen_where_a_name_makes_those_at_test_text(splits, sample):
    tested = (sample("e", "004"), sample("f", "bob"))
    assert describe(replace(splits, query=tested, gallery=tested)).shared == (4,)
    named = (sample("g", "04"), sample("h", "bob"))
    assert describe(replace(splits, train=named, query=tested, gallery=tested)).shared == ("bob",), "04 is not 004"


def test_numbers_of_msmt17_cannot_tell_shared_identities(splits):
    assert describe(replace(splits, name="msmt17", query=splits.train)).shared is None


def test_distractors_are_images_but_no_identity(splits, sample):
    gallery = (*splits.gallery, *(sample(f"x{k}", 0, 1) for k in range(5)))
    counts = describe(replace(splits, name="market1501", gallery=gallery)).splits["gallery"]
    assert (counts.identities, counts.images, counts.distractors) == (2, 7, 5)
    assert counts.per_identity == Spread(1, 1, 1, 1)
    texts = tuple(replace(s, pid=str(s.pid)) for s in gallery)
    assert describe(replace(splits, name="market1501", gallery=texts)).splits["gallery"].distractors == 5
    own = describe(replace(splits, gallery=gallery)).splits["gallery"]
    assert (own.identities, own.distractors) == (3, 0), "0 is a number like others in own data"


def test_vehicleid_has_all_test_images_in_query(splits):
    described = describe(replace(splits, name="VehicleID", protocol="vehicleid-10", gallery=()))
    gallery = described.splits["gallery"]
    assert (gallery.identities, gallery.images, gallery.cameras, gallery.per_identity) == (0, 0, 0, None)
    assert described.sizes.images == 5


def test_an_image_in_query_and_gallery_is_one_file(splits):
    twice = replace(splits, query=splits.gallery)
    assert len(unique_images(twice)) == 6
    assert describe(twice).sizes.images == 6


def test_real_images(real_data):
    from svllreid.data.readers import read

    described = describe(read("market1501", Path(real_data) / "pku_reid"))
    assert described.splits["train"].per_identity == Spread(16, 16, 16, 16)
    assert described.sizes.frequent == (((128, 48), 1184),)
    assert described.shared == ()

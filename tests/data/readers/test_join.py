from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.data.readers import hold_out, join, read
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Sample, Splits


def sample(name, pid, camid=UNKNOWN, viewid=UNKNOWN):
    return Sample(Path(f"{name}.jpg"), pid, camid, viewid)


FIRST = Splits(
    "market1501",
    train=(sample("a", 2, 0), sample("b", 7, 1)),
    query=(sample("c", 1, 5),),
    gallery=(sample("d", 1, 2),),
    notes=("something",),
)
SECOND = Splits(
    "veri",
    train=(sample("e", 2, 0, 3), sample("f", 3, 1)),
    query=(sample("g", 4, 1, 7),),
    gallery=(sample("h", 4, 0),),
    noun="vehicle",
)
THIRD = Splits("folder", train=(sample("i", "bob"),), query=(), gallery=(), protocol="leave-self-out")


def test_pids_cameras_and_views_are_shifted_apart():
    joined = join([FIRST, SECOND, THIRD, replace(SECOND, noun="person")])
    assert [(s.pid, s.camid, s.viewid) for s in joined.train] == [
        ("market1501/2", 0, UNKNOWN),
        ("market1501/7", 1, UNKNOWN),
        # Cameras 5 and 2 of the first part's query and gallery are taken too.
        ("veri/2", 3, 3),
        ("veri/3", 4, UNKNOWN),
        ("folder/bob", UNKNOWN, UNKNOWN),
        ("veri#2/2", 6, 0),
        ("veri#2/3", 7, UNKNOWN),
    ]
    assert joined.name == "market1501+veri+folder+veri#2"


def test_gapless_cameras_follow_on_those_before():
    parts = [Splits("a", many(1, range(6), 1), (), ()), Splits("b", many(1, range(3), 1), (), ())]
    assert [s.camid for s in join(parts).train] == [*range(6), 6, 7, 8]


def test_camera_numbers_of_any_size_join():
    huge = 2**63 - 1
    parts = [Splits("a", many(1, (huge, 20240105), 1), (), ()), Splits("b", many(1, (huge, 0), 1), (), ())]
    assert [s.camid for s in join(parts).train] == [huge, 20240105, 1, 0]


def test_test_set_protocol_and_noun_are_the_firsts():
    joined = join([FIRST, SECOND])
    assert (joined.query, joined.gallery) == (FIRST.query, FIRST.gallery)
    assert (joined.protocol, joined.noun) == ("cross-camera", "person")
    assert joined.notes == ("market1501: something",)
    assert join([THIRD, FIRST]).protocol == "leave-self-out"


def test_one_part_is_unchanged_and_none_an_error():
    assert join([FIRST]) is FIRST
    with pytest.raises(DatasetError, match="no dataset"):
        join([])


def test_part_without_training_images_is_an_error():
    with pytest.raises(DatasetError, match=r"folder has no training images"):
        join([FIRST, replace(THIRD, train=())])


def many(identities, cameras, images):
    return tuple(
        sample(f"{pid}_{camid}_{k}", pid, camid)
        for pid in range(identities)
        for camid in cameras
        for k in range(images)
    )


def test_one_query_an_identity_and_camera():
    splits = replace(FIRST, train=many(10, (0, 1, 2), 4))
    held = hold_out(splits, 0.3, seed=1)
    pids = {s.pid for s in held.query}
    assert len(pids) == 3
    assert sorted((s.pid, s.camid) for s in held.query) == [(pid, camid) for pid in sorted(pids) for camid in (0, 1, 2)]
    assert len(held.gallery) == 3 * 9
    assert not set(held.query) & set(held.gallery)
    assert set(held.train) == {s for s in splits.train if s.pid not in pids}
    assert not set(held.query + held.gallery) & set(FIRST.query + FIRST.gallery)
    assert held.notes[-1].startswith("3 of 10 training identities held out")


def test_seed_decides():
    splits = replace(FIRST, train=many(30, (0, 1), 3))
    assert hold_out(splits, 0.2, seed=5) == hold_out(splits, 0.2, seed=5)
    assert hold_out(splits, 0.2, seed=5).query != hold_out(splits, 0.2, seed=6).query


def test_one_image_in_each_camera_leaves_a_gallery():
    held = hold_out(replace(FIRST, train=many(4, (0, 1, 2), 1)), 0.25, seed=0)
    assert [s.camid for s in held.query] == [0]
    assert [s.camid for s in held.gallery] == [1, 2]


def test_identities_that_cannot_be_searched_stay_in_training():
    alone = tuple(sample(f"alone{k}", 90 + k, 0) for k in range(6))
    held = hold_out(replace(FIRST, train=many(4, (0, 1), 2) + alone), 0.3, seed=0)
    assert {s.pid for s in held.query} <= set(range(4)) and len({s.pid for s in held.query}) == 3
    with pytest.raises(DatasetError, match=r"5 of 10 training identities, but only 4 can be held out"):
        hold_out(replace(FIRST, train=many(4, (0, 1), 2) + alone), 0.5, seed=0)


def test_unknown_cameras_and_vehicleid():
    unknown = hold_out(replace(THIRD, train=many(5, (UNKNOWN,), 3)), 0.2, seed=0)
    assert (len(unknown.query), len(unknown.gallery), unknown.protocol) == (1, 2, "leave-self-out")
    vehicles = hold_out(replace(FIRST, train=many(5, (0,), 3), protocol="vehicleid-10"), 0.4, seed=0)
    assert (len(vehicles.query), len(vehicles.gallery), vehicles.protocol) == (6, 0, "vehicleid-10")


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_share_out_of_range_is_an_error(share):
    with pytest.raises(DatasetError, match="held-out share"):
        hold_out(FIRST, share, seed=0)


def test_one_identity_must_stay_to_train():
    with pytest.raises(DatasetError, match=r"is 2 of 2 .*one must be left"):
        hold_out(replace(FIRST, train=many(2, (0, 1), 2)), 0.9, seed=0)


@settings(deadline=None)
@given(
    cameras=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=2, max_size=8),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_every_query_has_a_match_and_no_image_is_lost(cameras, share, seed):
    train = tuple(sample(f"{pid}_{k}", pid, camid) for pid, seen in enumerate(cameras) for k, camid in enumerate(seen))
    try:
        held = hold_out(replace(FIRST, train=train), share, seed)
    except DatasetError:
        return
    assert sorted(held.train + held.query + held.gallery, key=str) == sorted(train, key=str)
    assert held.query
    for query in held.query:
        assert any(s.pid == query.pid and s.camid != query.camid for s in held.gallery)


@pytest.mark.real
def test_vehicle_pairs_held_out(real_data):
    splits = read("manifest", real_data / "vehicle_pairs" / "manifest.csv")
    held = hold_out(splits, 0.1, seed=0)
    assert (len(held.query), len(held.gallery)) == (51, 51)

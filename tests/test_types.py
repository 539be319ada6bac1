"""Rows of side information, and recognising a dataset."""

from pathlib import Path

import pytest

from svllreid.types import UNKNOWN, Origin, Sample, SideRows


def test_rows_follow_the_sorted_numbers_without_gaps():
    cameras, views = (20240105, 7, UNKNOWN, 2**63 - 1, 7), (UNKNOWN, 5, 5, UNKNOWN, 2)
    rows = SideRows.of(Sample(Path("x"), 1, camid, viewid) for camid, viewid in zip(cameras, views, strict=True))
    assert (rows.cameras, rows.views) == ((7, 20240105, 2**63 - 1), (2, 5))
    assert (rows.num_cameras, rows.num_views) == (3, 2)
    assert [rows.camera(camid) for camid in cameras] == [1, 0, UNKNOWN, 2, 0]
    assert [rows.view(viewid) for viewid in (2, 5, 3, UNKNOWN)] == [0, 1, UNKNOWN, UNKNOWN]


def test_numbers_without_gaps_are_their_own_rows():
    published = SideRows.of(Sample(Path("x"), 1, camid, 0) for camid in (5, 3, 1, 0, 2, 4))
    assert published == SideRows.counted(6, 1)
    assert [published.camera(camid) for camid in range(7)] == [0, 1, 2, 3, 4, 5, UNKNOWN]


def test_where_nothing_is_known_a_table_has_one_row():
    nothing = SideRows.of([Sample(Path("x"), 1)])
    assert (nothing, nothing.num_cameras, nothing.num_views) == (SideRows(), 1, 1)


WHOLE = {"train": "t", "query": "q", "gallery": "g"}


@pytest.mark.parametrize(
    ("here", "same"),
    [
        (WHOLE, True),
        ({"train": "t"}, True),
        ({**WHOLE, "query": "more", "gallery": "more"}, True),
        ({**WHOLE, "train": "others"}, False),
        ({"query": "q", "gallery": "more"}, True),
        ({"query": "more", "gallery": "g"}, True),
        ({"query": "x", "gallery": "y"}, False),
        ({}, False),
    ],
)
def test_own_data_is_known_by_what_it_lists(here, same):
    assert Origin("folder:/new", here).is_same(Origin("folder:/old", WHOLE)) is same


def test_without_listings_the_name_decides():
    assert Origin("market1501").is_same(Origin("market1501"))
    assert not Origin("market1501").is_same(Origin("dukemtmc"))
    old = Origin("folder:/old")  # of a checkpoint from before listings were kept
    assert Origin("folder:/old", WHOLE).is_same(old) and not Origin("folder:/new", WHOLE).is_same(old)
    assert not Origin("folder:/old", {"train": "t"}).is_same(Origin("folder:/old", {"query": "q"}))

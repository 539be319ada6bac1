"""Which pairs the review asks about."""

import weakref

import numpy as np
import pytest

from svllreid.errors import GalleryError
from svllreid.gallery.crop import Crop
from svllreid.web.service import review
from svllreid.web.service.crops import Crops
from svllreid.web.service.review import Review


def review_of(pids, answered=()):
    """A review of crops that are all equally far from each other, one for each identity given."""
    crops = [Crop(f"crop {number}", pid=pid) for number, pid in enumerate(pids)]
    vectors = np.eye(len(crops), dtype=np.float32)
    return Review(Crops(lambda: crops, shared=False), lambda: [(crops, vectors)] if crops else [], lambda: answered)


@pytest.mark.parametrize(
    ("pids", "joins", "parts"),
    [
        ([], 0, 0),
        ([None], 0, 0),
        ([None, None], 1, 0),
        ([None, None, None], 3, 0),
        (["anna", None], 1, 0),
        (["anna", "bob", "carl"], 3, 0),
        (["anna", "anna"], 0, 1),
    ],
)
def test_a_crop_is_asked_about_with_other_crops_alone(pids, joins, parts):
    asked = review_of(pids).open()
    assert all(pair.left != pair.right for pair in asked)
    assert [sum(pair.part is part for pair in asked) for part in (False, True)] == [joins, parts]


def test_a_gallery_that_does_not_answer_is_asked_again():
    asking = review_of(["anna", "bob"])
    scan = asking.scan
    asking.scan = broken
    with pytest.raises(GalleryError):
        asking.open()
    asking.scan = scan
    assert len(asking.open()) == 1


def test_of_many_crops_the_first_by_id_are_looked_at_and_no_more_are_held(monkeypatch):
    monkeypatch.setattr(review, "_MOST_CROPS", 20)
    crops = [Crop(f"{number * 37 % 101:03d}", pid="anna") for number in range(100)]
    vectors = np.array([[float(crop.id)] for crop in crops], np.float32)
    held = list[weakref.ref]()

    def scan():
        for start in range(0, 100, 10):
            block = vectors[start : start + 10].copy()
            held.append(weakref.ref(block))
            assert sum(one() is not None for one in held) <= 5
            yield crops[start : start + 10], block
            del block

    sample, features = Review(Crops(lambda: crops, shared=False), scan, lambda: ())._sample()
    assert [crop.id for crop in sample] == sorted(crop.id for crop in crops)[:20]
    assert features[:, 0].tolist() == [float(crop.id) for crop in sample]


def broken():
    raise GalleryError("the gallery is gone")

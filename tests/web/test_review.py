"""Which pairs the review asks about."""

import numpy as np
import pytest

from svllreid.errors import GalleryError
from svllreid.gallery.crop import Crop
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
    review = review_of(["anna", "bob"])
    scan = review.scan
    review.scan = broken
    with pytest.raises(GalleryError):
        review.open()
    review.scan = scan
    assert len(review.open()) == 1


def broken():
    raise GalleryError("the gallery is gone")

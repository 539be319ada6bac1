"""Boxes of a frame become crops, and `Encoder.encode_boxes` gives the features of these crops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from svllreid import Encoder
from svllreid.embedding.boxes import crop_boxes
from svllreid.errors import DatasetError, ImageError

HEIGHT, WIDTH = 48, 64
FRAME = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
BOXES = np.array([(3, 4, 20, 40), (30.4, 1.6, 50.6, 47.2)])


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return Encoder.load(checkpoint, device="cpu")


def test_features_are_those_of_the_crops(encoder):
    crops = [FRAME[4:40, 3:20], FRAME[2:47, 30:51]]
    np.testing.assert_array_equal(encoder.encode_boxes(FRAME, BOXES, 1), encoder.encode(crops, 1))
    np.testing.assert_array_equal(encoder.encode_boxes(FRAME[..., ::-1], BOXES, 1, channel_order="bgr"),
                                  encoder.encode(crops, 1))  # fmt: skip
    assert not np.allclose(encoder.encode_boxes(FRAME, BOXES, 1), encoder.encode_boxes(FRAME[..., ::-1], BOXES, 1))
    assert not np.allclose(encoder.encode_boxes(FRAME, BOXES, 1), encoder.encode_boxes(FRAME, BOXES))


@pytest.mark.parametrize("boxes", [[], np.empty((0, 4)), np.empty((0, 6), np.float32), torch.empty(0, 4)])
def test_no_boxes(encoder, boxes):
    features = encoder.encode_boxes(FRAME, boxes)
    assert features.shape == (0, encoder.spec.dim) and features.dtype == np.float32


@pytest.mark.parametrize(
    ("box", "crop"),
    [
        ((-5, -5, 10, 10), FRAME[:10, :10]),
        ((60, 40, 1e30, 1e30), FRAME[40:, 60:]),
        ((-np.inf, -1e300, np.inf, 1e300), FRAME),
        ((0.6, 0.4, 1.6, 1.4), FRAME[:1, 1:2]),
    ],
)
def test_what_lies_outside_is_cut_off(box, crop):
    np.testing.assert_array_equal(crop_boxes(FRAME, [box])[0], crop)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((5, 5, 5, 9), "no pixel"),
        ((9, 5, 5, 9), "no pixel"),
        ((5, 9, 9, 5), "no pixel"),
        ((5, 5, 5.4, 9), "no pixel"),
        ((70, 5, 90, 9), "no pixel"),
        ((np.inf, 5, np.inf, 9), "no pixel"),
        ((5, np.nan, 9, 9), "no number"),
    ],
)
def test_a_box_without_pixels_is_refused_with_its_index(encoder, box, reason):
    with pytest.raises(ImageError, match=rf"^box 2 \(.*{reason}"):
        encoder.encode_boxes(FRAME, [*BOXES, box])


def test_boxes_without_pixels_are_skipped_on_request(encoder):
    boxes = [BOXES[0], (5, 5, 5, 9), BOXES[1], (np.nan, 5, 9, 9)]
    features, skipped = encoder.encode_boxes(FRAME, boxes, 1, on_error="skip")
    np.testing.assert_array_equal(features, encoder.encode_boxes(FRAME, BOXES, 1))
    assert skipped == [1, 3]
    assert encoder.encode_boxes(FRAME, BOXES, on_error="skip")[1] == []
    features, skipped = encoder.encode_boxes(FRAME, [(5, 5, 5, 9)], on_error="skip")
    assert features.shape == (0, encoder.spec.dim) and skipped == [0]
    with pytest.raises(DatasetError, match="on_error is 'ignore'"):
        encoder.encode_boxes(FRAME, BOXES, on_error="ignore")


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        (BOXES[0], r"not \(4,\); give \[box\]"),
        (np.ones((2, 6)), "without their other columns"),
        ([(1, 2, 3), (1, 2, 3, 4)], "rows of four numbers"),
        ([("a", "b", "c", "d")], "rows of four numbers"),
        (None, "array"),
    ],
)
def test_other_boxes_are_refused(boxes, reason):
    with pytest.raises(DatasetError, match=reason):
        crop_boxes(FRAME, boxes)


@pytest.mark.parametrize("frame", [FRAME[..., 0], FRAME.astype(np.float32), FRAME[..., :2], "frame.jpg", None])
def test_other_frames_are_refused(frame):
    with pytest.raises(DatasetError, match=r"a frame is an array \(H, W, 3\) of uint8, not "):
        crop_boxes(frame, BOXES)


def test_channel_orders_are_named():
    with pytest.raises(DatasetError, match="channel_order is 'gbr'"):
        crop_boxes(FRAME, BOXES, "gbr")


@given(arrays(np.float64, (1, 4), elements=st.floats(width=64)))
def test_any_numbers_give_a_crop_or_one_error(boxes):
    try:
        (crop,) = crop_boxes(FRAME, boxes)
    except ImageError as error:
        assert "box 0" in str(error)
    else:
        assert 0 < crop.shape[0] <= HEIGHT and 0 < crop.shape[1] <= WIDTH

"""Crops of a video frame: the boxes that a detector found, cut out for an `Encoder`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from svllreid.data.images import ChannelOrder
from svllreid.errors import DatasetError, ImageError


def crop_boxes(
    frame: np.ndarray,
    boxes: Any,
    channel_order: ChannelOrder = "rgb",
    on_skip: Callable[[int, ImageError], None] | None = None,
) -> list[np.ndarray]:
    """Cuts boxes out of a frame and returns the crops as RGB arrays (h, w, 3) uint8.

    Corners are rounded to whole pixels, as trackers do, and parts of a box outside of the frame are cut off. The crops
    share the memory of the frame.

    Args:
        frame: (H, W, 3) uint8, one picture of a video.
        boxes: (n, 4) numbers x1, y1, x2, y2 in pixels: the left, upper, right and lower edge of each box. Anything that
            NumPy makes an array of; nothing at all where no box was found.
        channel_order: order of the colours in the frame: `rgb`, or `bgr` as OpenCV reads them.
        on_skip: called with the index and the error of each box that cannot be cut out, and is left out; None raises
            the error.
    Returns: n crops, fewer where boxes were left out.
    Raises:
        DatasetError: the frame or the boxes have another shape or type.
        ImageError: a box has NaN corners, or no pixel in the frame. The message has its index, counted from 0.

    >>> frame = np.zeros((240, 320, 3), np.uint8)
    >>> [crop.shape for crop in crop_boxes(frame, [(10, 20, 50.4, 120), (-30, 200, 40, 900)])]
    [(100, 40, 3), (40, 40, 3)]
    """
    if channel_order not in get_args(ChannelOrder):
        raise DatasetError(f"channel_order is {channel_order!r}; give 'rgb' or 'bgr'")
    if not (isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8):
        raise DatasetError(f"a frame is an array (H, W, 3) of uint8, not {_described(frame)}")
    if channel_order == "bgr":
        frame = frame[:, :, ::-1]
    crops = []
    for index, box in enumerate(_numbers(boxes)):
        try:
            crops.append(_crop(frame, box, index))
        except ImageError as error:
            if on_skip is None:
                raise
            on_skip(index, error)
    return crops


def _numbers(boxes: Any) -> np.ndarray:
    """The boxes as an array (n, 4) of float64."""
    try:
        numbers = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"boxes are rows of four numbers x1, y1, x2, y2: {error}") from None
    if numbers.size == 0:
        return np.empty((0, 4))
    if numbers.ndim != 2 or numbers.shape[1] != 4:
        advice = "give [box] for a single one" if numbers.ndim == 1 else "give detections without their other columns"
        raise DatasetError(f"boxes are an array (n, 4) of x1, y1, x2, y2, not {numbers.shape}; {advice}")
    return numbers


def _crop(frame: np.ndarray, box: np.ndarray, index: int) -> np.ndarray:
    """The pixels (h, w, 3) of a box in the frame."""
    height, width = frame.shape[:2]
    corners = ", ".join(f"{value:g}" for value in box)
    if np.isnan(box).any():
        raise ImageError(f"box {index} ({corners}) has a corner that is no number; leave it out")
    # Clipped before it is made whole, since no integer holds the largest floats.
    x1, y1, x2, y2 = np.clip(box.round(), 0, (width, height, width, height)).astype(int)
    if x1 >= x2 or y1 >= y2:
        raise ImageError(
            f"box {index} ({corners}) has no pixel in the frame of {width} x {height}; boxes are x1, y1, x2, y2 with "
            "x1 < x2 and y1 < y2: leave out those outside of the frame"
        )
    return frame[y1:y2, x1:x2]


def _described(value: Any) -> str:
    return f"{value.shape} of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"

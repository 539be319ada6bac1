"""Features without what all images of a camera have in common."""

from __future__ import annotations

import numpy as np

from svllreid.types import UNKNOWN


def centred(features: np.ndarray, camids: np.ndarray) -> np.ndarray:
    """Features from which the mean of their camera is subtracted and the mean of all cameras' means added.

    Colours and backgrounds of a camera move all its features in one direction, so that images of two people by one
    camera may be nearer than two images of one person by two cameras. The result has the length that the features had,
    if all of them had length 1.

    It assumes that the cameras see about the same people. Where each sees others, it takes away what tells them apart.

    Args:
        features: (N, D) float.
        camids: (N,) cameras; images with an unknown one (-1) are one group.
    Returns: (N, D) float32.
    Example:
        >>> import numpy as np
        >>> centred(np.array([[0.0], [2.0], [10.0], [12.0]]), np.array([0, 0, 1, 1])).ravel().tolist()
        [5.0, 7.0, 5.0, 7.0]
    """
    result = np.array(features, np.float32)
    unit = np.allclose(np.linalg.norm(result, axis=1), 1, atol=1e-3)
    cameras, group = np.unique(np.where(camids < 0, UNKNOWN, camids), return_inverse=True)
    means = np.stack([result[group == number].mean(axis=0) for number in range(len(cameras))])
    result += (means.mean(axis=0) - means)[group]
    if unit:
        result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-12)
    return result

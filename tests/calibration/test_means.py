"""Several images of one identity as one feature."""

import numpy as np
import pytest

from svllreid.calibration.fit import calibrate
from svllreid.calibration.means import deal, mean_feature
from svllreid.errors import EvaluationError


def test_the_mean_of_features():
    np.testing.assert_allclose(mean_feature([[3, 0], [0, 4]], normalized=True), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(mean_feature([[3, 0], [0, 4]], normalized=False), [[1.5, 2]])
    np.testing.assert_array_equal(mean_feature([[1, 0], [-1, 0]], normalized=True), [[0, 0]])


def test_groups_are_of_one_identity_and_camera_and_share_no_row():
    pids, camids = np.array([3, 1, 3, 1, 3, 3, 3, 1]), np.array([0, 0, 0, 0, 0, 1, 1, 1])
    groups = deal(pids, camids, size=2, seed=1)
    assert sorted({(pids[row], camids[row]) for row in rows} for rows in groups) == [{(1, 0)}, {(3, 0)}, {(3, 1)}]
    rows = np.concatenate(groups)
    assert len(rows) == len(set(rows.tolist())) == 6


def test_means_are_calibrated_as_images_would_be(people, spec_of):
    features, pids, camids = people
    found = calibrate(features, pids, camids, spec=spec_of(4), dataset="x", mean_of=2).record
    assert (found.images, found.mean_of, found.identities) == (120, 2, 60)
    assert found.pairs["all"].genuine == 60 and "same-camera" not in found.pairs
    means = np.concatenate([mean_feature(pair, normalized=True) for pair in features.reshape(120, 2, 4)])
    by_hand = calibrate(means, pids[::2], camids[::2], spec=spec_of(4), dataset="x").record
    assert found.pairs["all"].points[0].threshold == pytest.approx(by_hand.pairs["all"].points[0].threshold, rel=1e-5)


@pytest.mark.parametrize("mean_of", [0, 3, 1.5])
def test_numbers_of_images_that_make_no_means(people, spec_of, mean_of):
    with pytest.raises(EvaluationError, match="mean"):
        calibrate(*people, spec=spec_of(4), dataset="x", mean_of=mean_of)

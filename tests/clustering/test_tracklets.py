"""Tracklets, and images that cannot be one identity."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.clustering.jaccard import JaccardDistances
from svllreid.clustering.tracklets import mean_features, simultaneous, split_simultaneous, tracklet_rows


def test_one_name_in_two_cameras_is_two_tracklets():
    rows = tracklet_rows(np.array([0, 1, 0, -1, -1]), np.array(["a", "a", "a", "a", ""]))
    assert rows.tolist() == [0, 1, 0, 2, 3]


def test_mean_features_keep_their_length():
    features = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(mean_features(features, np.array([0, 0, 1])), [[half, half], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(mean_features(3 * features, np.array([0, 0, 1])), [[1.5, 1.5], [0, 3]])


def test_only_one_known_camera_at_one_known_time_counts():
    nan = np.nan
    camids, times = np.array([0, 0, 0, 1, -1, -1, 0, 0]), np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, nan, nan])
    assert simultaneous(camids, times, np.array([0, 1, 0, 2, 3, 4, 5, 6])).tolist() == [[0, 1]]
    assert len(simultaneous(camids, times, np.zeros(8, np.int64))) == 0


def test_a_cluster_is_split_between_the_nearest():
    """Four images on a line, of which the outer two are seen at once: each keeps its neighbour."""
    distances = JaccardDistances(np.array([[0.0], [0.2], [1.0], [1.2]], np.float32), k1=3, k2=1)
    labels, parts = split_simultaneous(np.zeros(4, np.int64), distances, np.array([[0, 3]]))
    assert labels.tolist() == [0, 0, 1, 1] and parts == [[0, 1]]
    untouched, none = split_simultaneous(np.array([0, 0, 1, 1]), distances, np.array([[0, 3]]))
    assert untouched.tolist() == [0, 0, 1, 1] and none == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=24))
def test_no_cluster_holds_simultaneous_images_and_none_is_joined(images):
    camids, times, labels = (np.array(part) for part in zip(*images, strict=True))
    features = np.random.default_rng(len(images)).standard_normal((len(images), 3)).astype(np.float32)
    pairs = simultaneous(camids, times.astype(float), np.arange(len(images)))
    after, parts = split_simultaneous(labels, JaccardDistances(features, k1=5), pairs)
    assert not (after[pairs[:, 0]] == after[pairs[:, 1]]).any()
    whole = set(labels.tolist()) - {part[0] for part in parts}
    for label in set(after.tolist()):
        assert len(set(labels[after == label].tolist())) == 1
    assert all((after[labels == label] == label).all() for label in whole)

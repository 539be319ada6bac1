"""Tracklets, and images that cannot be one identity."""

from itertools import combinations

import numpy as np
from drawn_people import people
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.clustering.jaccard import JaccardDistances
from svllreid.clustering.tracklets import (
    MOST_TRIED,
    count_apart,
    mean_features,
    shared_moments,
    split_simultaneous,
    tracklet_rows,
)


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
    assert shared_moments(camids, times, np.array([0, 1, 0, 2, 3, 4, 5, 6])).tolist() == [[0, 0], [0, 1]]
    assert len(shared_moments(camids, times, np.zeros(8, np.int64))) == 0
    assert count_apart(shared_moments(camids[:0], times[:0], np.zeros(0, np.int64))) == 0


def test_many_images_at_one_time_are_not_paired():
    """Of 100,000 images there are five thousand million pairs."""
    count = 100_000
    seen = shared_moments(np.zeros(count, np.int64), np.zeros(count), np.arange(count))
    assert len(seen) == count and count_apart(seen) == count * (count - 1) // 2


def test_a_cluster_is_split_between_the_nearest():
    """Four images on a line, of which the outer two are seen at once: each keeps its neighbour."""
    distances = JaccardDistances(np.array([[0.0], [0.2], [1.0], [1.2]], np.float32), k1=3, k2=1)
    labels, parts = split_simultaneous(np.zeros(4, np.int64), distances, np.array([[5, 0], [5, 3]]))
    assert labels.tolist() == [0, 0, 1, 1] and parts == [[0, 1]]
    untouched, none = split_simultaneous(np.array([0, 0, 1, 1]), distances, np.array([[5, 0], [5, 3]]))
    assert untouched.tolist() == [0, 0, 1, 1] and none == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=24))
def test_no_cluster_holds_simultaneous_images_and_none_is_joined(images):
    camids, times, labels = (np.array(part) for part in zip(*images, strict=True))
    features = np.random.default_rng(len(images)).standard_normal((len(images), 3)).astype(np.float32)
    rows = tracklet_rows(camids, np.array([str(place // 2) for place in range(len(images))]))
    seen = shared_moments(camids, times.astype(float), rows)
    pairs = {
        (rows[a], rows[b])
        for a, b in combinations(range(len(images)), 2)
        if camids[a] == camids[b] and times[a] == times[b] and rows[a] != rows[b]
    }
    assert count_apart(seen) == len({tuple(sorted(pair)) for pair in pairs})
    count = rows.max() + 1
    labels = labels[:count]
    after, parts = split_simultaneous(labels, JaccardDistances(features[:count], k1=5), seen)
    assert not any(after[a] == after[b] for a, b in pairs)
    whole = set(labels.tolist()) - {part[0] for part in parts}
    for label in set(after.tolist()):
        assert len(set(labels[after == label].tolist())) == 1
    assert all((after[labels == label] == label).all() for label in whole)


def test_of_a_large_cluster_the_nearest_are_joined():
    """Two people in one cluster, each seen at the same times as the other, whose images are alternately listed."""
    features = people(2, 2 * MOST_TRIED, noise=0.1).reshape(2, -1, 16).swapaxes(0, 1).reshape(-1, 16)
    distances, person = JaccardDistances(features), np.arange(len(features)) % 2
    seen = np.stack([np.arange(len(features)) // 2, np.arange(len(features))], axis=1)
    labels, parts = split_simultaneous(np.zeros(len(features), np.int64), distances, seen)
    assert len(distances.among(np.arange(len(features)), MOST_TRIED).rows) == MOST_TRIED * len(features)
    for number in (0, 1):
        assert len(set(labels[person == number])) == 1
    assert parts == [[0, 1]]

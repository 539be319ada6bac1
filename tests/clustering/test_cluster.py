"""Images to clusters: people found, tracklets kept together, simultaneous images kept apart, cameras centred."""

import numpy as np
import pytest
from drawn_people import people

from svllreid.clustering.cameras import centred
from svllreid.clustering.cluster import ClusterOptions, cluster
from svllreid.errors import EvaluationError

METHODS = pytest.mark.parametrize("method", ["dbscan", "hdbscan"])


@METHODS
def test_oracle_features_give_the_people(method):
    sizes = [5, 9, 7]
    features = np.repeat(np.eye(3, dtype=np.float32), sizes, axis=0)
    found = cluster(features, options=ClusterOptions(method, k1=8, k2=2))
    assert found.labels.tolist() == [2] * 5 + [0] * 9 + [1] * 7, "the largest first"
    assert (found.count, found.tracklets, found.pairs_apart, found.split, found.dissolved) == (3, 0, 0, 0, 0)


@METHODS
def test_tracklets_stay_together_and_count_their_images(method):
    features = people(6, 12, noise=0.3)
    random = np.random.default_rng(0)
    features[7] = random.standard_normal(16) / 4  # a bad crop of the first person, which follows its tracklet
    tracklets = np.array([f"{row // 6}" for row in range(72)])
    camids = np.zeros(72, np.int64)
    found = cluster(features, camids, tracklets=tracklets, options=ClusterOptions(method, k1=1, k2=1))
    assert found.tracklets == 12
    for name in set(tracklets):
        labels = set(found.labels[tracklets == name])
        assert len(labels) == 1 and -1 not in labels, "six images are enough for a cluster"
    if method == "dbscan":
        assert found.labels.tolist() == np.repeat(np.arange(6), 12).tolist()


def test_simultaneous_images_are_never_one_person():
    """Two people who look the same, four images each, walk beside each other in one camera."""
    features = np.concatenate([people(1, 8, noise=0.01), people(1, 8, noise=0.01, seed=1)])
    camids, times = np.zeros(16, np.int64), np.array([0, 0, 1, 1, 2, 2, 3, 3, *range(10, 18)], float)
    options = ClusterOptions(k1=7, k2=1)
    found = cluster(features, camids, times, options=options)
    assert (found.pairs_apart, found.split, found.dissolved) == (4, 1, 0)
    assert sorted(np.bincount(found.labels)) == [4, 4, 8]
    for row in range(0, 8, 2):
        assert found.labels[row] != found.labels[row + 1]
    whole = cluster(features, camids, times, options=ClusterOptions(k1=7, k2=1, apart=False))
    assert sorted(np.bincount(whole.labels)) == [8, 8] and whole.pairs_apart == 0
    few = cluster(features, camids, times, options=ClusterOptions(k1=7, k2=1, min_samples=5))
    assert few.dissolved == 2 and few.labels.tolist() == [-1] * 8 + [0] * 8


def test_centred_cameras_take_away_what_a_camera_adds():
    features = people(10, 6, noise=0.1)
    camids = np.arange(60) % 2
    shifted = features + 1.5 * (camids[:, None] == 1) * people(1, 1, seed=5)
    shifted /= np.linalg.norm(shifted, axis=1, keepdims=True)
    plain = cluster(shifted, camids, options=ClusterOptions(k1=5, k2=2, min_samples=3))
    better = cluster(shifted, camids, options=ClusterOptions(k1=5, k2=2, min_samples=3, centre_cameras=True))
    assert plain.count > 10
    assert better.labels.tolist() == np.repeat(np.arange(10), 6).tolist()
    np.testing.assert_allclose(np.linalg.norm(better.features, axis=1), 1, atol=1e-6)
    assert centred(np.array([[1.0], [4.0]]), np.array([-1, -1])).ravel().tolist() == [1.0, 4.0]


def test_clusters_do_not_depend_on_the_order_of_images():
    features, order = people(8, 9, noise=0.5), np.random.default_rng(1).permutation(72)
    one, two = cluster(features).labels[order], cluster(features[order]).labels
    assert {tuple(np.flatnonzero(one == label)) for label in set(one)} == {
        tuple(np.flatnonzero(two == label)) for label in set(two)
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "kmeans"}, "choose dbscan or hdbscan"),
        ({"eps": 1.5}, "eps is 1.5; use a number from 0 to 1"),
        ({"eps": 0}, "eps is 0, up to which no image is near; use a number above 0"),
        ({"min_samples": 1}, "min_samples is 1; use a whole number of at least 2"),
        ({"k1": 0}, "k1 is 0"),
    ],
)
def test_options_are_checked(settings, message):
    with pytest.raises(EvaluationError, match=message):
        ClusterOptions(**settings)


def test_one_tracklet_alone_is_refused():
    with pytest.raises(EvaluationError, match=r"3 images hold 1 tracklets .*; give at least two tracklets"):
        cluster(people(1, 3), np.zeros(3, np.int64), tracklets=np.array(["a", "a", "a"]))
    with pytest.raises(EvaluationError, match="0 images hold 0 tracklets"):
        cluster(np.empty((0, 4), np.float32))

"""Measures against identities, in cases computed by hand."""

import numpy as np
import pytest

from svllreid.clustering.agreement import agreement


def test_perfect_clusters_and_unknown_images():
    measured = agreement(np.array([4, 4, 1, 1, 1]), np.array(["a", "a", "b", "b", ""]))
    assert measured.to_dict() == {
        "images": 4, "identities": 2, "clusters": 2, "unclustered": 0, "found": 2,
        "adjusted_rand_index": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0,
    }  # fmt: skip
    assert agreement(np.array([0, 0]), np.array(["", ""])) is None


def test_pairs_by_hand():
    """Cluster 0 has a a b: 1 of its 3 pairs is right. Of the pairs a a a (3) and b b (1), 1 is found."""
    measured = agreement(np.array([0, 0, 0, 1, -1]), np.array(["a", "a", "b", "a", "b"]))
    assert (measured.precision, measured.recall, measured.f1) == pytest.approx((1 / 3, 1 / 4, 2 / 7))
    assert (measured.identities, measured.clusters, measured.unclustered, measured.found) == (2, 2, 1, 1)


def test_images_in_no_cluster_are_no_pair():
    measured = agreement(np.array([-1, -1, -1]), np.array(["a", "a", "b"]))
    assert (measured.precision, measured.recall, measured.f1, measured.clusters, measured.found) == (0, 0, 0, 0, 0)


def test_one_cluster_of_all_agrees_by_chance_alone():
    measured = agreement(np.zeros(6, np.int64), np.array(list("aabbcc")))
    assert measured.adjusted_rand_index == 0 and measured.recall == 1 and measured.found == 0

"""Sparse Jaccard distances of a set to itself, against the definition with dense vectors and loops."""

import numpy as np
import pytest
from drawn_people import dense, people

from svllreid.clustering.jaccard import JaccardDistances
from svllreid.errors import EvaluationError


def plain(features, k1, k2):
    """The definition of Zhong et al., in float64, of N images among themselves: (N, N)."""
    features = features.astype(np.float64)
    count = len(features)
    squares = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    squares /= squares.max(axis=1, keepdims=True)
    order = np.argsort(squares, axis=1, kind="stable")

    def reciprocal(image, k):
        return {other for other in order[image, : k + 1] if image in order[other, : k + 1]}

    vectors = np.zeros((count, count))
    for image in range(count):
        core = reciprocal(image, k1)
        chosen = set(core)
        for other in core:
            around = reciprocal(other, round(k1 / 2))
            if 3 * len(core & around) > 2 * len(around):
                chosen |= around
        chosen = sorted(chosen)
        weights = np.exp(-squares[image, chosen])
        vectors[image, chosen] = weights / weights.sum()
    vectors = np.stack([vectors[order[image, :k2]].mean(axis=0) for image in range(count)])
    common = np.minimum(vectors[:, None], vectors[None]).sum(axis=2)
    return 1 - common / (2 - common)


@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (8, 1), (5, 3)])
def test_distances_are_those_of_the_definition(k1, k2, monkeypatch):
    monkeypatch.setattr("svllreid.clustering.jaccard._BLOCK_NUMBERS", 900)
    features = people(12, 10)
    distances = JaccardDistances(features, k1, k2)
    expected = plain(features, k1, k2)
    np.testing.assert_allclose(dense(distances.matrix()), expected, atol=2e-6)
    assert (distances.matrix().diagonal() == 0).all()
    near = distances.matrix(at_most=0.5)
    assert near.data.max() <= 0.5 and near.nnz == (expected <= 0.5).sum()


def test_pairs_without_a_common_neighbour_are_not_stored():
    matrix = JaccardDistances(people(40, 5, noise=0.05), k1=4, k2=2).matrix()
    assert matrix.nnz == 40 * 5 * 5, "each image with the five of its person"


def test_pairs_among_some_images():
    distances = JaccardDistances(people(12, 10))
    members = np.array([3, 4, 50, 51, 119])
    pairs = distances.among(members)
    found = np.ones((5, 5))
    found[pairs.rows, pairs.columns] = pairs.distances
    np.testing.assert_allclose(found, dense(distances.matrix())[np.ix_(members, members)], atol=1e-6)


def test_of_fewer_images_than_k1_all_are_taken():
    features = people(4, 4)
    np.testing.assert_allclose(dense(JaccardDistances(features, 500, 2).matrix()), plain(features, 500, 2), atol=2e-6)


def test_equal_features_and_one_image():
    assert (dense(JaccardDistances(np.ones((5, 3), np.float32), k1=10).matrix()) == 0).all()
    assert JaccardDistances(np.ones((1, 3), np.float32)).matrix().toarray().tolist() == [[0.0]]


def test_progress_ends_where_all_is_done():
    calls = []
    JaccardDistances(people(4, 5), progress=lambda *call: calls.append(call)).matrix(1.0, lambda *c: calls.append(c))
    assert calls[-1] == (20, 20) and (40, 40) in calls


@pytest.mark.parametrize(("k1", "k2"), [(0, 6), (30, 0), (2.5, 1)])
def test_numbers_of_neighbours_are_checked(k1, k2):
    with pytest.raises(EvaluationError, match="use a whole number of at least 1"):
        JaccardDistances(people(2, 3), k1, k2)


def test_nan_is_refused():
    with pytest.raises(EvaluationError, match="row 1 holds NaN"):
        JaccardDistances(np.array([[0.0], [np.nan]]))

"""DBSCAN and HDBSCAN on sparse distances, against scikit-learn on the whole matrix."""

import importlib

import numpy as np
import pytest
from drawn_people import dense, people
from scipy.sparse import csr_array
from sklearn.cluster import DBSCAN, HDBSCAN

from svllreid.clustering import density
from svllreid.clustering.agreement import agreement
from svllreid.clustering.density import dbscan, hdbscan
from svllreid.clustering.jaccard import JaccardDistances
from svllreid.errors import EvaluationError


@pytest.mark.parametrize("noise", [0.1, 0.5, 0.7])
def test_dbscan_is_that_of_the_whole_matrix(noise):
    distances = JaccardDistances(people(15, 10, noise))
    whole = DBSCAN(eps=0.6, min_samples=4, metric="precomputed").fit(dense(distances.matrix())).labels_
    for matrix in (distances.matrix(), distances.matrix(at_most=0.6)):
        assert dbscan(matrix, 0.6, 4).tolist() == whole.tolist()
    assert len(set(whole)) > 1


def test_weights_stand_for_images():
    distances = csr_array((np.zeros(3), (range(3), range(3))))
    assert dbscan(distances, 0.5, 4).tolist() == [-1, -1, -1]
    assert dbscan(distances, 0.5, 4, np.array([4, 3, 5])).tolist() == [0, -1, 1]


@pytest.mark.parametrize("edges", [10, 1 << 22])
@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_hdbscan_is_that_of_the_whole_matrix(noise, edges, monkeypatch):
    monkeypatch.setattr(density, "_EDGES", edges)
    monkeypatch.setattr("svllreid.clustering.jaccard._BLOCK_NUMBERS", 1500)
    features = people(20, 8, noise)
    features[10:13] = features[9]  # equal images, at distance 0
    distances = JaccardDistances(features, k1=10)
    matrix = dense(distances.matrix())
    matrix = np.maximum(matrix, matrix.T)
    model = HDBSCAN(min_cluster_size=4, min_samples=4, metric="precomputed", copy=True)
    whole = model.fit(matrix).labels_
    found = hdbscan(distances, 4)
    compared = agreement(found, whole.astype(str))
    assert compared.adjusted_rand_index == 1 and compared.clusters == compared.identities >= 20
    assert (found == -1).tolist() == (whole == -1).tolist()


def test_few_images_are_in_no_cluster():
    assert hdbscan(JaccardDistances(people(1, 3)), 4).tolist() == [-1, -1, -1]


def test_absent_libraries_are_named_with_their_extra(monkeypatch):
    distances, real = JaccardDistances(people(2, 5)), importlib.import_module
    monkeypatch.setattr("svllreid.libraries.import_module", lambda name: real("there_is_no_such_module"))
    for call in (distances.matrix, lambda: hdbscan(distances, 4)):
        with pytest.raises(EvaluationError, match=r"pip install 'svllreid\[search\]'"):
            call()

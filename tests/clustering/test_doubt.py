"""How images fit their clusters, in a case computed by hand."""

import numpy as np

from svllreid.clustering.doubt import fit_of


def test_distances_to_means():
    """Clusters at 0 and 10 (means of -1, 1 and 10, 10); an image in none."""
    fit = fit_of(np.array([[-1.0], [1.0], [10.0], [10.0], [5.0]], np.float32), np.array([0, 0, 1, 1, -1]))
    np.testing.assert_allclose(fit.own, [1, 1, 0, 0, np.nan])
    np.testing.assert_allclose(fit.other, [11, 9, 10, 10, np.nan])
    np.testing.assert_allclose(fit.silhouette, [10 / 11, 8 / 9, 1, 1, np.nan])
    assert fit.nearest.tolist() == [1, 0] and fit.gap.tolist() == [10, 10]
    np.testing.assert_allclose(fit.doubt(np.array([0, 0, 1, 1, -1])), [1 - (10 / 11 + 8 / 9) / 2, 0], atol=1e-6)


def test_one_cluster_and_none():
    fit = fit_of(np.array([[0.0], [2.0]], np.float32), np.array([0, 0]))
    assert fit.nearest.tolist() == [-1] and np.isnan(fit.gap[0]) and fit.doubt(np.array([0, 0])).tolist() == [0]
    none = fit_of(np.array([[0.0], [2.0]], np.float32), np.array([-1, -1]))
    assert len(none.nearest) == 0 and np.isnan(none.silhouette).all()

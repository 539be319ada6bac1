"""Features of people, and whole matrices of distances."""

import numpy as np


def people(count, images, noise=0.4, seed=0):
    """Features of length 1, `images` of each person one after the other."""
    random = np.random.default_rng(seed)
    features = np.repeat(random.standard_normal((count, 16)), images, axis=0)
    features += noise * random.standard_normal(features.shape)
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def dense(matrix):
    """The whole matrix, pairs that are not stored 1 apart."""
    pairs, result = matrix.tocoo(), np.ones(matrix.shape)
    result[pairs.row, pairs.col] = pairs.data
    return result

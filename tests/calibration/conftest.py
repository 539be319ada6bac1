"""A record of a model, and drawn people whose calibration can be computed by hand."""

import numpy as np
import pytest

from svllreid.calibration.fit import calibrate
from svllreid.embedding.contract import EmbeddingSpec


@pytest.fixture(scope="session")
def spec_of():
    """Makes a record of a model with features of `dim` numbers."""

    def make(dim, weights="0f3a"):
        return EmbeddingSpec(
            weights, dim, (256, 128), (0.5,) * 3, (0.5,) * 3, "before", False, True, False, False, 0.0, "", "32"
        )

    return make


@pytest.fixture(scope="session")
def people():
    """Features (240, 4), pids and cameras 0 and 1 of 60 people, two images in each camera, who overlap a little."""
    random = np.random.default_rng(3)
    pids = np.repeat(np.arange(60), 4)
    features = random.normal(size=(60, 4))[pids] + random.normal(scale=0.25, size=(240, 4))
    return features.astype(np.float32), pids, np.tile([0, 0, 1, 1], 60)


@pytest.fixture(scope="session")
def calibration(people, spec_of):
    return calibrate(*people, spec=spec_of(4), dataset="drawn people")

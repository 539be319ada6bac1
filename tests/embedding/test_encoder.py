"""Encoder gives the features that `svllreid test` ranks, whatever the configuration says of them."""

import numpy as np
import pytest

from svllreid import Encoder
from svllreid.evaluation.features import FeatureSet
from svllreid.jobs.testing import run_test

SETTINGS = {
    "default": {},
    "not normalised": {"TEST.FEAT_NORM": "no"},
    "after the neck": {"TEST.NECK_FEAT": "after"},
    "with the mirrored image": {"TEST.FLIP": True},
    "bfloat16": {"SOLVER.PRECISION": "bf16-mixed"},
    "without side information": {"MODEL.SIE_CAMERA": False},
}


@pytest.fixture(scope="session")
def tested(checkpoint, small_config, tmp_path_factory):
    """Tests the checkpoint under some settings, each once: its configuration, what was saved, and the metrics."""
    done = {}

    def run(overrides):
        key = str(overrides)
        if key not in done:
            folder = tmp_path_factory.mktemp("tested")
            base = {"TEST.WEIGHT": str(checkpoint), "OUTPUT_DIR": str(folder), "MODEL.USE_TEXT": False}
            config = small_config({**base, **overrides})
            metrics = run_test(config, save_features=True)
            done[key] = config, FeatureSet.load(folder / "features.npz"), metrics
        return done[key]

    return run


def encoded(encoder, samples):
    return encoder.encode([s.path for s in samples], camids=[s.camid for s in samples])


@pytest.mark.parametrize("overrides", SETTINGS.values(), ids=SETTINGS)
def test_encoder_gives_what_was_tested(tested, checkpoint, overrides):
    config, saved, _ = tested(overrides)
    encoder = Encoder.load(checkpoint, config, device="cpu")
    for samples, features in ((saved.query, saved.q_feats), (saved.gallery, saved.g_feats)):
        found = encoded(encoder, samples)
        assert found.dtype == features.dtype == np.float32
        np.testing.assert_allclose(found, features, rtol=0, atol=1e-6)

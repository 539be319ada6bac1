"""Encoder gives the features that `svllreid test` ranks, whatever the configuration says of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import svllreid
from svllreid import Encoder
from svllreid.evaluation.features import FeatureSet
from svllreid.jobs.testing import run_features, run_test

SETTINGS = {
    "default": {},
    "not normalised": {"TEST.FEAT_NORM": "no"},
    "after the neck": {"TEST.NECK_FEAT": "after"},
    "with the mirrored image": {"TEST.FLIP": True},
    "bfloat16": {"SOLVER.PRECISION": "bf16-mixed"},
    "without side information": {"MODEL.SIE_CAMERA": False},
}
LABELS = ("pid", "camid")


@pytest.fixture(scope="session")
def tested(checkpoint, small_config, tmp_path_factory):
    """Tests the checkpoint under some settings, each once: its configuration, what was saved, and the metrics."""
    done = {}

    def run(overrides):
        key = str(overrides)
        if key not in done:
            folder = tmp_path_factory.mktemp("tested")
            base = {"TEST.WEIGHT": str(checkpoint), "OUTPUT_DIR": str(folder), "MODEL.USE_TEXT": False}
            base["TEST.FAR"] = [0.05, 0.2, 0.6]
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


def test_the_configuration_beside_a_checkpoint_counts(checkpoint, tested, tmp_path):
    _, saved, _ = tested(SETTINGS["not normalised"])
    for suffix in (".pth", ".json"):
        shutil.copy(checkpoint.with_suffix(suffix), tmp_path)
    beside = tmp_path / checkpoint.with_suffix(".json").name
    info = json.loads(beside.read_text())
    info["config"]["TEST"]["FEAT_NORM"] = "no"
    beside.write_text(json.dumps(info))
    encoder = Encoder.load(tmp_path / checkpoint.name, device="cpu")
    np.testing.assert_allclose(encoded(encoder, saved.query), saved.q_feats, rtol=0, atol=1e-6)
    assert encoder.spec == saved.spec


@pytest.mark.parametrize("name", ["default", "not normalised"])
def test_a_threshold_of_metrics_json_decides_as_verification_did(tested, checkpoint, name):
    config, saved, metrics = tested(SETTINGS[name])
    encoder = Encoder.load(checkpoint, config, device="cpu")
    distances = svllreid.distances(encoded(encoder, saved.query), encoded(encoder, saved.gallery))
    pids, camids = ([[getattr(s, what) for s in side] for side in (saved.query, saved.gallery)] for what in LABELS)
    same, junk = (np.equal.outer(*values) for values in (pids, camids))
    found = json.loads((Path(config.output_dir) / "metrics.json").read_text())["verification"]
    assert found == metrics["verification"] and found["distance"] == "euclidean"
    genuine, impostor = same & ~junk, ~same
    assert (genuine.sum(), impostor.sum()) == (found["num_genuine"], found["num_impostor"])
    points = [point for point in (found["at_EER"], *found["at_FAR"].values()) if point["threshold"] is not None]
    assert len(points) > 1
    for point in points:
        accepted = distances <= point["threshold"]
        assert accepted[genuine].mean() == pytest.approx(point["tar"], abs=1e-12)
        assert accepted[impostor].mean() == pytest.approx(point["far"], abs=1e-12)


def test_metrics_and_features_say_the_model(tested, checkpoint):
    config, saved, metrics = tested(SETTINGS["default"])
    encoder = Encoder.load(checkpoint, config, device="cpu")
    assert saved.spec == encoder.spec
    assert metrics["embedding"] == encoder.spec.to_dict()
    assert json.loads((Path(config.output_dir) / "metrics.json").read_text())["embedding"] == metrics["embedding"]


def test_features_that_do_not_say_their_model_are_ranked_and_the_numbers_say_so(tested, tmp_path):
    config, saved, metrics = tested(SETTINGS["default"])
    replace(saved, spec=None).save(tmp_path / "old.npz")
    found = run_features(tmp_path / "old.npz", config.model_copy(update={"output_dir": str(tmp_path)}))
    assert found["embedding"] is None and "it is unknown which model the features are of" in found["notes"]
    assert (found["mAP"], found["verification"]) == (metrics["mAP"], metrics["verification"])

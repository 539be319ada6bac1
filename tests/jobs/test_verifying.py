"""`svllreid verify`: two sides of one or several images, with and without a calibration."""

import numpy as np
import pytest

from svllreid import Calibration, Encoder, distances
from svllreid.errors import DatasetError, EvaluationError
from svllreid.jobs.calibrating import calibrate_to_file
from svllreid.jobs.verifying import VerifyOptions, verify_images

from .test_calibrating import CPU
from .test_embedding_files import checkpoint

HERE = VerifyOptions(device="cpu")


@pytest.fixture
def calibrated(labelled, weights, tmp_path):
    """Images of a folder, weights and their calibration."""
    calibrate_to_file(labelled, weights, tmp_path / "c.json", CPU)
    return labelled.parent, weights, tmp_path / "c.json"


def test_two_images_without_a_calibration(labelled, weights, capsys):
    one, other = (labelled.parent / f"{name}.png" for name in ("0_0", "1_0"))
    verdict = verify_images(one, other, weights, options=HERE)
    encoder = Encoder.load(weights, device="cpu")
    assert verdict.distance == pytest.approx(float(distances(encoder.encode(one), encoder.encode(other))[0, 0]))
    assert verdict.images == (1, 1) and verdict.same is None and verdict.probability is None
    assert capsys.readouterr().err == "", "the answer needs no notes"


def test_decisions_are_those_of_the_calibration(calibrated, capsys):
    folder, weights, file = calibrated
    calibration = Calibration.load(file)
    answers = set()
    for other in ("0_0", "0_1", "5_2"):
        verdict = verify_images(folder / "0_0.png", folder / f"{other}.png", weights, file, HERE)
        assert verdict.same == (verdict.distance <= calibration.threshold(0.01))
        assert verdict.threshold == calibration.threshold(0.01) and verdict.false_accept_rate == 0.01
        assert verdict.probability == calibration.probability(verdict.distance)
        assert verdict.interval[0] <= verdict.measured_rate <= verdict.interval[1]
        answers.add(verdict.same)
    assert answers == {True, False}
    assert "for the false-accept rate 0.01, as the calibration does not support 0.001" in capsys.readouterr().err


def test_rate_and_prior_are_checked_before_the_model_is_read(calibrated, tmp_path):
    folder, _, file = calibrated
    for wrong, message in (({"prior": 1.5}, "the prior is 1.5"), ({"false_accept_rate": 0.5}, "states no threshold")):
        with pytest.raises(EvaluationError, match=message):
            verify_images(folder, folder, tmp_path / "absent.pth", file, VerifyOptions(device="cpu", **wrong))


def test_cameras_choose_the_pairs(calibrated):
    folder, weights, file = calibrated
    sides = (folder / "0_0.png", folder / "0_1.png", weights, file)
    with pytest.raises(EvaluationError, match="needs 1,000 impostor pairs, 528 are there"):
        verify_images(*sides, VerifyOptions(device="cpu", camids=(0, 1), false_accept_rate=0.01))
    with pytest.raises(EvaluationError, match="of same-camera pairs"):
        verify_images(*sides, VerifyOptions(device="cpu", camids=(1, 1), false_accept_rate=0.01))
    assert verify_images(*sides, VerifyOptions(device="cpu", camids=(-1, 1))).pairs == "all"


def test_a_folder_is_one_side(calibrated, tmp_path, capsys):
    folder, weights, file = calibrated
    several = tmp_path / "several"
    several.mkdir()
    for name in ("0_1.png", "0_2.png"):
        (several / name).write_bytes((folder / name).read_bytes())
    verdict = verify_images(folder / "0_0.png", several, weights, file, HERE)
    features = Encoder.load(weights, device="cpu").encode([folder / f"0_{shot}.png" for shot in range(3)])
    mean = features[1:].mean(axis=0)
    assert verdict.images == (1, 2)
    assert verdict.distance == pytest.approx(np.linalg.norm(features[0] - mean / np.linalg.norm(mean)), abs=1e-5)
    assert "1 and 2 images are compared, and the calibration is of single images" in capsys.readouterr().err
    Calibration(Calibration.load(file).record.model_copy(update={"mean_of": 2})).save(tmp_path / "means.json")
    again = verify_images(several, several, weights, tmp_path / "means.json", HERE)
    assert again.images == (2, 2)
    assert "and the calibration is of" not in capsys.readouterr().err


def test_another_model_or_missing_images_are_refused(calibrated, small_config, tmp_path):
    folder, weights, file = calibrated
    config = small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": False, "TEST.NECK_FEAT": "after"})
    other = checkpoint(config, 2, tmp_path / "other.pth")
    with pytest.raises(EvaluationError, match=r"cannot be compared: .*neck"):
        verify_images(folder / "0_0.png", folder / "1_0.png", other, file, HERE)
    with pytest.raises(DatasetError, match=r"none\.png"):
        verify_images(folder / "none.png", folder / "1_0.png", weights, file, HERE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no image"):
        verify_images(tmp_path / "empty", folder / "1_0.png", weights, file, HERE)

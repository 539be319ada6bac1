"""`Calibration`: what it answers, which features it refuses, and damaged files."""

import json

import numpy as np
import pytest

import svllreid
from svllreid import Calibration, distances
from svllreid.calibration.calibration import Decision
from svllreid.errors import EvaluationError


@pytest.fixture(scope="module")
def impostors(people):
    """The distances of all impostor pairs, each pair once."""
    features, pids, _ = people
    first, second = np.triu_indices(len(pids), 1)
    other = pids[first] != pids[second]
    return distances(features, features)[first[other], second[other]]


def test_a_threshold_keeps_its_rate(calibration, impostors):
    assert len(impostors) == 240 * 239 // 2 - 60 * 6
    for rate in (1e-2, 1e-3):
        share = (impostors <= calibration.threshold(rate)).mean()
        assert 0.8 * rate < share <= rate
        assert calibration.point(rate).false_accepts == (impostors <= calibration.threshold(rate)).sum()


def test_a_rate_that_the_pairs_do_not_support_is_refused_by_name(calibration):
    assert calibration.supported_rates() == (1e-2, 1e-3)
    with pytest.raises(EvaluationError, match=r"needs 100,000 impostor pairs, 28,320 are there\); supported: 0.01, "):
        calibration.threshold(1e-4)
    with pytest.raises(EvaluationError, match="not among those"):
        calibration.threshold(0.05)
    with pytest.raises(EvaluationError, match="no 'other' pairs; it has all"):
        calibration.threshold(1e-2, pairs="other")


def test_the_usual_rate_is_one_in_a_thousand_or_the_smallest_larger_one(calibration, people, spec_of):
    assert calibration.usual_rate() == 1e-3
    few = svllreid.calibration.fit.calibrate(
        people[0][:160], people[1][:160], spec=spec_of(4), dataset="few", method="isotonic"
    )
    assert few.supported_rates() == (1e-2, 1e-3)
    fewer = svllreid.calibration.fit.calibrate(people[0][:80], people[1][:80], spec=spec_of(4), dataset="fewer")
    assert fewer.usual_rate() == 1e-2
    fewest = svllreid.calibration.fit.calibrate(people[0][:24], people[1][:24], spec=spec_of(4), dataset="fewest")
    with pytest.raises(EvaluationError, match="states no false-accept rate for all pairs; not supported: needs 1,000"):
        fewest.usual_rate()


def test_a_decision_is_by_the_threshold(calibration):
    threshold = calibration.threshold(1e-3)
    assert calibration.decide(threshold) == Decision(True, threshold, 1e-3)
    assert not calibration.decide(np.nextafter(threshold, 9)).same
    assert calibration.decide(threshold, 1e-2).threshold == calibration.threshold(1e-2) > threshold


def test_a_rate_of_a_distance_is_not_too_small(calibration, impostors):
    for distance in (0.1, 0.3, 0.5, 0.7, 0.9):
        found, share = calibration.false_accept_rate(distance), (impostors <= distance).mean()
        assert share <= found.rate <= 1.2 * share + 1e-3
        assert found.low <= found.rate <= found.high
    at = calibration.point(1e-2)
    assert calibration.false_accept_rate(at.threshold).rate == at.false_accepts / len(impostors)
    assert calibration.false_accept_rate(100).rate == 1


def test_a_prior_changes_the_odds(calibration):
    near = calibration.probability([0.9])[0]
    rarer = calibration.probability([0.9], prior=0.01)[0]
    assert rarer / (1 - rarer) == pytest.approx(near / (1 - near) / 99)
    assert calibration.probability(np.full((2, 3), 0.2)).shape == (2, 3)
    assert (np.diff(calibration.probability(np.linspace(0, 50, 20))) <= 0).all()


@pytest.mark.parametrize("given", [[-1.0], [np.nan], ["far"]])
def test_distances_that_are_none_are_refused(calibration, given):
    with pytest.raises(EvaluationError, match="distances"):
        calibration.probability(given)


def test_one_distance_is_asked_for(calibration):
    assert calibration.decide(np.array([[0.0]])).same is True
    assert calibration.false_accept_rate(np.array([0.0])).rate == calibration.false_accept_rate(0.0).rate
    for answer in (calibration.decide, calibration.false_accept_rate):
        with pytest.raises(EvaluationError, match="2 distances are given, and one is asked for"):
            answer([0.1, 0.2])


@pytest.mark.parametrize("prior", [0, 1, float("nan"), "half"])
def test_a_prior_is_between_0_and_1(calibration, prior):
    with pytest.raises(EvaluationError, match="prior"):
        calibration.probability([0.5], prior=prior)


def test_another_model_is_refused(calibration, spec_of):
    calibration.check(spec_of(4))
    with pytest.raises(EvaluationError, match="cannot be compared: weights"):
        calibration.check(spec_of(4, "ffff"))
    with pytest.raises(EvaluationError, match="unknown which model"):
        calibration.check(None)


def test_what_is_saved_is_read_again(calibration, tmp_path):
    file = tmp_path / "new" / "people.json"
    calibration.save(file)
    again = Calibration.load(file)
    assert again.record == calibration.record and again.spec == calibration.spec
    assert list(file.parent.iterdir()) == [file]


def changed(content, path, value):
    *folders, last = path
    for folder in folders:
        content = content[folder]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], "else", "is no calibration"),
        (["version"], 2, "version 2, and this svllreid reads 1"),
        (["images"], -1, "damaged calibration"),
        (["pairs"], {}, "no entry 'all'"),
        (["extra"], 1, "damaged calibration"),
        (["pairs", "all", "points", 0, "threshold"], "near", "pairs.all.points.0.threshold"),
        (["pairs", "all", "points", 0, "threshold"], float("nan"), "damaged calibration"),
        (["pairs", "all", "curve", "distances"], [2.0, 1.0], "different lengths"),
        (["pairs", "all", "probability", "slope"], 3.0, "slope"),
        (["pairs", "all", "probability", "method"], "magic", "probability"),
        (["pairs", "all", "points"], [], "pairs.all.points"),
        (["pairs", "all", "points", 0, "interval"], None, "a threshold lacks what was measured"),
        (
            ["pairs", "all", "curve"],
            {"distances": [], "false_accepts": [], "low": [], "high": []},
            "curve.distances",
        ),
        (["pairs", "all", "impostor"], 0, "pairs.all.impostor"),
        (["pairs", "all", "impostor"], 9, "more false accepts than impostor pairs"),
        (["embedding", "weights"], "ffff", "do not make its fingerprint"),
    ],
)
def test_a_damaged_file_gives_one_message(calibration, tmp_path, path, value, message):
    file = tmp_path / "c.json"
    calibration.save(file)
    content = json.loads(file.read_text())
    changed(content, path, value)
    file.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match=message) as error:
        Calibration.load(file)
    assert "\n" not in str(error.value) and "c.json" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b"{", b"[" * 100_000, b'{"format": 1}'])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    file = tmp_path / "c.json"
    file.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"is no (readable )?calibration"):
        Calibration.load(file)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="does not exist"):
        Calibration.load(tmp_path / "none.json")

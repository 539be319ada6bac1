"""A calibration from labelled features: kinds of pairs, camera pairs, and labels that make none."""

from importlib import import_module

import numpy as np
import pytest

from svllreid.calibration import fit as module
from svllreid.calibration.fit import calibrate
from svllreid.errors import EvaluationError


def test_kinds_and_camera_pairs_add_up(calibration):
    record = calibration.record
    assert (record.images, record.identities, record.cameras) == (240, 60, (0, 1))
    assert set(record.pairs) == {"all", "cross-camera", "same-camera"}
    for count in ("genuine", "impostor"):
        whole, cross, same = (getattr(record.pairs[kind], count) for kind in ("all", "cross-camera", "same-camera"))
        assert whole == cross + same == sum(getattr(pair, count) for pair in record.camera_pairs)
    assert [pair.cameras for pair in record.camera_pairs] == [(0, 0), (0, 1), (1, 1)]
    assert record.camera_pairs[1].point.threshold == record.pairs["cross-camera"].points[0].threshold
    for group in record.pairs.values():
        assert group.reliability.brier < 0.25 and group.reliability.calibration_error < 0.2
        interval = group.points[0].identity_interval
        assert interval[0] <= group.points[0].interval[0] < group.points[0].interval[1] <= interval[1]


def test_progress_ends_with_all_pairs(people, spec_of):
    done = []
    calibrate(*people, spec=spec_of(4), dataset="x", progress=lambda *numbers: done.append(numbers))
    assert done[-1] == (3 * 240 * 239 // 2,) * 2


def test_without_cameras_there_is_one_kind(people, spec_of):
    record = calibrate(people[0], people[1], spec=spec_of(4), dataset="x").record
    assert set(record.pairs) == {"all"} and record.cameras == () and record.camera_pairs == ()


def test_identities_may_have_names(people, spec_of, calibration):
    names = [f"person {pid}" for pid in people[1]]
    again = calibrate(people[0], names, people[2], spec=spec_of(4), dataset="drawn people")
    assert again.record.pairs["all"].curve == calibration.record.pairs["all"].curve


def test_the_order_of_images_does_not_matter(people, spec_of, calibration):
    order = np.random.default_rng(0).permutation(240)
    again = calibrate(*(column[order] for column in people), spec=spec_of(4), dataset="drawn people")
    one, other = again.record.pairs["all"], calibration.record.pairs["all"]
    assert one.points[0].threshold == pytest.approx(other.points[0].threshold, rel=1e-6)
    assert one.probability.slope == pytest.approx(other.probability.slope)


def test_too_many_pairs_are_drawn(people, spec_of, monkeypatch):
    monkeypatch.setattr(module, "MOST_PAIRS", 200)
    group = calibrate(*people, spec=spec_of(4), dataset="x").record.pairs["all"]
    assert (group.fitted_genuine, group.fitted_impostor) == (200, 200)
    assert (group.genuine, group.impostor) == (360, 28_320)


@pytest.mark.parametrize(
    ("features", "pids", "camids", "message"),
    [
        (np.zeros((2, 3)), [1, 2], None, "makes 4 numbers"),
        (np.zeros((2, 4)), [1], None, "give one an image"),
        (np.zeros((2, 4)), [1, 2], [0], "give one an image"),
        (np.zeros((2, 4)), [1.5, 2], None, "integers or texts"),
        (np.zeros((1, 4)), [1], None, "make no pair"),
        (np.eye(4), [1, 2, 3, 4], None, "0 pairs of one identity and 6 of two"),
        (np.eye(4), [1, 1, 1, 1], None, "6 pairs of one identity and 0 of two"),
    ],
)
def test_labels_that_make_no_calibration_are_refused(spec_of, features, pids, camids, message):
    with pytest.raises(EvaluationError, match=message):
        calibrate(features, pids, camids, spec=spec_of(4), dataset="x")


def test_distances_that_do_not_tell_identities_are_refused(spec_of):
    features = np.eye(4)[[0, 1, 0, 1]]  # both people's first images are equal, and so are their second ones
    with pytest.raises(EvaluationError, match="no nearer than pairs of two"):
        calibrate(features, [1, 1, 2, 2], spec=spec_of(4), dataset="x")


def test_one_odd_kind_of_pairs_does_not_stop_the_others(people, spec_of):
    features, pids, _ = people
    chosen = np.concatenate([np.flatnonzero(pids >= 1), [0, 1]])
    camids = np.append(np.arange(len(chosen) - 2) % 4, [4, 4])  # one pair of one person within a camera
    far = features[chosen].copy()
    far[-1] += 100
    record = calibrate(far, pids[chosen], camids, spec=spec_of(4), dataset="x").record
    assert record.pairs["same-camera"].probability.slope == 0
    assert record.pairs["all"].probability.slope < 0


def test_missing_libraries_are_named_with_their_extra(people, spec_of, monkeypatch):
    monkeypatch.setattr("svllreid.libraries.import_module", lambda name: import_module("there_is_no_such_module"))
    with pytest.raises(EvaluationError, match=r"svllreid\[search\]"):
        calibrate(*people, spec=spec_of(4), dataset="x")


def test_an_interval_over_identities_is_never_the_narrower_one(spec_of):
    """60 couples, in each of which one pair of images is near: all identities are alike, so leaving one out shows no
    spread, and the interval over pairs stays."""
    couple = np.array([0, 0.25, 0.3, 0.55])
    features = (np.repeat(100.0 * np.arange(60), 4) + np.tile(couple, 60))[:, None]
    point = calibrate(features, np.repeat(np.arange(120), 2), spec=spec_of(1), dataset="couples").point(1e-2)
    assert point.false_accepts == 60
    assert point.identity_interval == point.interval

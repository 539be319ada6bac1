"""Open-set search, computed by hand."""

import numpy as np
import pytest

from svllreid.calibration.open_set import OpenSet, open_set
from svllreid.errors import EvaluationError


def test_a_small_case_by_hand():
    query = np.array([[0.0], [10.0], [20.0], [31.0], [42.0]])
    gallery = np.array([[1.0], [13.0], [15.0], [30.0]])
    # ann 1 from ann; bob 3 from ann, 5 from bob; cid 5 from bob (cid is not there), eve 1 from cid's neighbour, ...
    result = open_set(query, gallery, ["ann", "bob", "cid", "dan", "eve"], ["ann", "ann", "bob", "dan"])
    np.testing.assert_array_equal(result.known_distances, [1, 3, 1])
    np.testing.assert_array_equal(result.right, [True, False, True])
    np.testing.assert_array_equal(result.unknown_distances, [5, 12])
    half = result.at(0.5)  # one of the two queries of nobody may be answered
    assert (half.false_alarm_rate, half.identification_rate) == (0.5, 2 / 3)
    assert half.threshold == pytest.approx(12, abs=1e-5) and half.threshold < 12
    none = result.at(0.49)
    assert none.false_alarm_rate == 0 and none.identification_rate == 2 / 3 and none.threshold < 5
    assert result.at(1).threshold == np.inf
    at_two = result.with_threshold(0.5)
    assert (at_two.false_alarm_rate, at_two.identification_rate) == (0, 0)


def test_junk_is_left_out_and_a_query_with_nothing_else_is_not_counted():
    query, gallery = np.array([[0.0], [5.0], [9.0]]), np.array([[0.0], [1.0], [5.0]])
    result = open_set(query, gallery, ["a", "b", "c"], ["a", "a", "b"], [0, 0, 0], [0, 1, 0])
    np.testing.assert_array_equal(result.known_distances, [1])  # not 0, which is of the same camera
    assert result.right.tolist() == [True] and result.not_counted == 1
    np.testing.assert_array_equal(result.unknown_distances, [4])


def test_ties_of_queries_of_nobody_do_not_exceed_the_rate():
    result = OpenSet(np.array([1.0], np.float32), np.array([True]), np.full(10, 2.0, np.float32))
    assert result.at(0.5).false_alarm_rate == 0
    assert result.at(0.5).identification_rate == 1


def test_both_kinds_of_queries_are_needed():
    features = np.eye(2)
    with pytest.raises(EvaluationError, match="2 queries are of somebody in the gallery and 0 of nobody"):
        open_set(features, features, ["a", "b"], ["a", "b"])
    with pytest.raises(EvaluationError, match="false_alarm_rate"):
        OpenSet(np.ones(1), np.ones(1, bool), np.ones(1)).at(2)

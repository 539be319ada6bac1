"""Who matches whom, and which matches are junk: against a comparison of every pair."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.matches import Matches


def pairs_of(matches, start, stop):
    """The pairs as a set of (query in the block, gallery column, junk)."""
    rows, columns, junk = matches.pairs(start, stop)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows), "each pair once"
    return set(zip(rows.tolist(), columns.tolist(), junk.tolist(), strict=True))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_pairs_are_those_of_equal_pid(data):
    numbers = st.integers(0, 3)
    query = data.draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
    gallery = data.draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
    start = data.draw(st.integers(0, len(query) - 1))
    (q_pids, q_camids), (g_pids, g_camids) = zip(*query, strict=True), zip(*gallery, strict=True)
    for cameras in (True, False):
        given_cameras = (q_camids, g_camids) if cameras else (None, None)
        matches = Matches((len(query), len(gallery)), q_pids, g_pids, *given_cameras)
        expected = {
            (row, column, cameras and one[1] == other[1])
            for row, one in enumerate(query[start:])
            for column, other in enumerate(gallery)
            if one[0] == other[0]
        }
        assert pairs_of(matches, start, len(query)) == expected


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda pids: [str(pid) for pid in pids]])
def test_identities_of_every_kind(kind):
    matches = Matches((2, 3), kind([7, 10]), kind([10, 7, 10]), None, None)
    assert pairs_of(matches, 0, 2) == {(0, 1, False), (1, 0, False), (1, 2, False)}


def test_columns_of_a_query_ascend():
    pids = [1, 2, 1, 3] * 20  # short lists would be sorted in order by any method
    matches = Matches((1, len(pids)), [1], pids, None, None)
    assert matches.pairs(0, 1)[1].tolist() == list(range(0, len(pids), 2))


@pytest.mark.parametrize(
    ("pids", "camids", "words"),
    [
        (([1, 2], [3]), (None, None), "no query's pid is in the gallery"),
        (([1, 2], [1]), ([0, 0], [0]), "all matches are junk"),
    ],
)
def test_no_query_that_counts_is_explained(pids, camids, words):
    matches = Matches((2, 1), *pids, *camids)
    for step in (1, 4096):
        with pytest.raises(EvaluationError, match=words):
            matches.require_match(step)


def test_one_query_that_counts_is_enough_in_whatever_block():
    matches = Matches((5, 1), [1, 1, 1, 1, 2], [2], [0] * 5, [1])
    for step in (1, 2, 5, 4096):
        matches.require_match(step)

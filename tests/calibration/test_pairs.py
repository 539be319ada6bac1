"""All pairs, counted in blocks and drawn, against all pairs listed one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid import distances
from svllreid.calibration import pairs as module
from svllreid.calibration.pairs import LabelledFeatures, count_pairs, distances_of, draw_pairs
from svllreid.errors import EvaluationError


def listed(labelled):
    """Distance, whether genuine, and both cameras of each pair, one by one."""
    matrix = distances(labelled.features, labelled.features)
    for one in range(len(labelled.pids)):
        for other in range(one + 1, len(labelled.pids)):
            yield (
                matrix[one, other],
                labelled.pids[one] == labelled.pids[other],
                tuple(sorted((int(labelled.camids[one]), int(labelled.camids[other])))),
            )


def check(counts, chosen):
    """Counts are those of the listed pairs, at every threshold."""
    genuine = np.array([d for d, same, _ in chosen if same])
    impostor = np.array([d for d, same, _ in chosen if not same])
    assert (counts.genuine, counts.impostor) == (len(genuine), len(impostor))
    assert (counts.verification is None) == (not len(genuine) or not len(impostor))
    if counts.verification is None:
        return
    found = counts.verification
    np.testing.assert_array_equal(found.thresholds, np.unique(genuine))
    for threshold, false, true in zip(found.thresholds, found.false_accept_rates, found.true_accept_rates, strict=True):
        assert false == pytest.approx((impostor <= threshold).mean())
        assert true == pytest.approx((genuine <= threshold).mean())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-1, 2)), min_size=2, max_size=14))
def test_each_pair_counts_once(images):
    names, values, camids = zip(*images, strict=True)
    pids = np.unique(names, return_inverse=True)[1]
    # Whole numbers, whose distances are exact in any order of computation.
    labelled = LabelledFeatures(np.array(values, np.float32)[:, None], pids, np.array(camids))
    by_kind, by_cameras = count_pairs(labelled)
    everything = list(listed(labelled))
    kinds = {
        "all": everything,
        "same-camera": [pair for pair in everything if pair[2][0] == pair[2][1] != -1],
        "cross-camera": [pair for pair in everything if -1 < pair[2][0] < pair[2][1]],
    }
    for kind, chosen in kinds.items():
        if kind in by_kind:
            check(by_kind[kind], chosen)
        else:
            assert not chosen
    assert -1 not in {camera for cameras in by_cameras for camera in cameras}
    for cameras, counts in by_cameras.items():
        check(counts, [pair for pair in everything if pair[2] == cameras])


def test_small_blocks_count_the_same(people, monkeypatch):
    features, pids, camids = people
    labelled = LabelledFeatures(features, pids, camids)
    whole, _ = count_pairs(labelled)
    monkeypatch.setattr(module, "_PIECE_NUMBERS", 300)
    done = []
    pieces, _ = count_pairs(labelled, done.append)
    for kind, counts in whole.items():
        np.testing.assert_array_equal(
            counts.verification.false_accept_rates, pieces[kind].verification.false_accept_rates
        )
    assert sum(done) == 240 * 239


@pytest.mark.parametrize("kind", ["all", "cross-camera", "same-camera"])
@pytest.mark.parametrize("genuine", [True, False])
@pytest.mark.parametrize("most", [10, 100, 10**6])
def test_drawn_pairs_are_of_their_kind_and_different(people, kind, genuine, most):
    features, pids, camids = people
    labelled = LabelledFeatures(features, pids, camids)
    drawn = draw_pairs(labelled, kind, genuine=genuine, most=most, generator=np.random.default_rng(0))
    one, other = drawn.T
    assert ((pids[one] == pids[other]) == genuine).all() and (one != other).all()
    if kind != "all":
        assert ((camids[one] == camids[other]) == (kind == "same-camera")).all()
    assert len({frozenset(pair) for pair in drawn.tolist()}) == len(drawn)
    counts = count_pairs(labelled)[0][kind]
    assert len(drawn) == min(most, counts.genuine if genuine else counts.impostor)
    again = draw_pairs(labelled, kind, genuine=genuine, most=most, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, again)


def test_distances_of_pairs():
    features = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], np.float32)
    np.testing.assert_allclose(distances_of(features, np.array([[0, 1], [0, 2]])), [5, 1])
    assert distances_of(features, np.empty((0, 2), int)).shape == (0,)


def test_features_that_are_not_finite_are_refused():
    labelled = LabelledFeatures(np.array([[0.0], [np.nan]], np.float32), np.array([0, 0]), np.array([0, 0]))
    with pytest.raises(EvaluationError, match=r"NaN|infinite"):
        count_pairs(labelled)

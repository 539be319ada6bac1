"""The tracking benchmark draws the same video for the same seed, and counts switches as they were made by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the tracking benchmark runs where BoxMOT is, which brings scipy")
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def tracking():
    sys.path.insert(0, str(FOLDER))
    try:
        import tracking

        yield tracking
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def video(tracking):
    return tracking.draw_video(0, 60)


def rows(boxes, numbers):
    return np.column_stack([boxes, numbers])


def scored(tracking, video, numbers):
    """The score of tracks that have the true boxes, with these numbers in each frame."""
    score = tracking.Score()
    seen = [share >= tracking.SEEN for share in video.seen]
    score.add(video, [rows(b, n)[s] for b, n, s in zip(video.boxes, numbers, seen, strict=True)])
    return score


def test_videos_are_drawn_again_alike(tracking, video):
    again = tracking.draw_video(0, 60)
    np.testing.assert_array_equal(again.frames, video.frames)
    assert video.frames[0].shape == (270, 480, 3) and video.frames[0].dtype == np.uint8
    other = tracking.draw_video(1, 1)
    assert not np.array_equal(other.frames[0], video.frames[0])


def test_people_hide_each_other_and_are_then_not_detected(tracking, video):
    found = list(tracking.detections(video, 0))
    seen = np.array(video.seen)
    assert seen.min() < tracking.SEEN < seen.max() == 1
    sure = sum(map(len, found))
    assert 0.9 * (seen >= tracking.SEEN).sum() < sure <= (seen >= tracking.SEEN).sum()
    for boxes, share in zip(found, video.seen, strict=True):
        assert len(boxes) <= (share >= tracking.SEEN).sum() and boxes.shape[1:] == (6,)


def test_perfect_tracks(tracking, video):
    score = scored(tracking, video, [(7, 8, 9)] * 60)
    assert score.switches == 0 and score.idf1 == 1


def test_two_people_who_change_their_tracks(tracking, video):
    score = scored(tracking, video, [(7, 8, 9)] * 30 + [(8, 7, 9)] * 30)
    assert score.switches == 2 and 0.5 < score.idf1 < 0.9


def test_a_new_track_for_one_person(tracking, video):
    assert scored(tracking, video, [(7, 8, 9)] * 30 + [(7, 8, 10)] * 30).switches == 1


def test_no_tracks(tracking, video):
    score = tracking.Score()
    score.add(video, [np.empty((0, 5))] * 60)
    assert score.switches == 0 and score.idf1 == 0

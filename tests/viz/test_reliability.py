"""The picture of reliability."""

import sys

import numpy as np
import pytest
from PIL import Image

from svllreid.calibration.probability import reliability
from svllreid.errors import EvaluationError
from svllreid.viz.reliability import MOST_PANELS, check_plot, draw_reliability


@pytest.fixture(scope="module")
def bins():
    return reliability(np.array([True, True, False, False]), np.array([0.95, 0.45, 0.45, 0.05]))


def test_a_panel_for_each_kind_of_pairs(bins, tmp_path):
    assert draw_reliability(tmp_path / "new" / "one.png", "people", [("all", bins)]) == 1
    assert draw_reliability(tmp_path / "many.png", "people", [("all", bins)] * 30) == MOST_PANELS
    with Image.open(tmp_path / "new" / "one.png") as one, Image.open(tmp_path / "many.png") as many:
        assert many.width > 2 * one.width and many.height > 2 * one.height
        assert len(np.unique(np.asarray(one.convert("L")))) > 10


def test_what_cannot_be_drawn_is_refused(bins, tmp_path, monkeypatch):
    with pytest.raises(EvaluationError, match="too few identities"):
        draw_reliability(tmp_path / "a.png", "people", [])
    with pytest.raises(EvaluationError, match=r"written as \.png"):
        check_plot(tmp_path / "a.pdf")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EvaluationError, match=r"svllreid\[viz\]"):
        check_plot(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())

"""The texts of the page and the picture after a test."""

from pathlib import Path

import numpy as np

from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import evaluate_protocol
from svllreid.jobs.result_page import caption
from svllreid.types import Sample


def test_names_are_cut_only_where_there_is_one_line():
    name = "anna\nof the  " + "very " * 30 + "long name"
    query, gallery = (Sample(Path("q.jpg"), name, 0),), (Sample(Path("g.jpg"), name, 1),)
    features = FeatureSet("mine", query, gallery, np.ones((1, 3)), np.ones((1, 3)), "cross-camera")
    [part] = evaluate_protocol(features).parts
    numbers = ", camid 0, AP 100 %, first match at rank 1"
    assert caption(part, 0) == name + numbers
    assert caption(part, 0, longest=20) == "anna of the very ver..." + numbers
    assert caption(part, 0, longest=1000) == " ".join(name.split()) + numbers

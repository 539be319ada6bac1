"""Features saved and read again; archives of others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from svllreid.errors import EvaluationError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import evaluate_protocol
from svllreid.types import Sample


def samples(*pids):
    return tuple(Sample(Path(f"ä/{pid}.jpg"), pid, 2, -1) for pid in pids)


@pytest.mark.parametrize("pids", [(1, 2), ("anna", "bo")])
def test_round_trip(tmp_path, pids):
    feats = torch.randn(2, 3)
    written = FeatureSet(
        "any", samples(*pids), samples(*pids[:1]), feats, feats[:1], "cross-camera", ("V2",), {"small": np.array([1])}
    )
    written.save(tmp_path / "features.npz")
    found = FeatureSet.load(tmp_path / "features.npz")
    for name in ("name", "query", "gallery", "protocol", "notes"):
        assert getattr(found, name) == getattr(written, name)
    np.testing.assert_array_equal(found.q_feats, feats)
    np.testing.assert_array_equal(found.g_feats, feats[:1])
    assert found.parts["small"].tolist() == [1]


def test_pictures_round_trip_and_decide_over_paths(tmp_path):
    query, gallery = samples("anna"), samples("anna", "bo")
    feats = np.eye(2, 3, dtype=np.float32)
    pictures = np.array([7]), np.array([4, 7])
    FeatureSet("own", query, gallery, feats[:1], feats, "leave-self-out", pictures=pictures).save(
        tmp_path / "features.npz"
    )
    found = FeatureSet.load(tmp_path / "features.npz")
    assert [numbers.tolist() for numbers in found.pictures] == [[7], [4, 7]]
    renamed = replace(found, gallery=(gallery[1], gallery[1]), query=(gallery[1],))
    assert evaluate_protocol(renamed).metrics["mAP"] == 1, "one picture of two is left, though the path is the same"
    with pytest.raises(EvaluationError, match="all matches are junk"):
        evaluate_protocol(replace(renamed, pictures=None))


def test_an_empty_gallery_and_no_notes_round_trip(tmp_path):
    FeatureSet("any", samples(1), (), np.ones((1, 3)), np.ones((0, 3)), "vehicleid-10").save(tmp_path / "f.npz")
    found = FeatureSet.load(tmp_path / "f.npz")
    assert (found.gallery, found.notes, found.parts) == ((), (), {})
    assert found.g_feats.shape == (0, 3)


def test_the_least_that_others_may_write(tmp_path):
    np.savez(tmp_path / "theirs.npz", q_feats=np.ones((1, 3)), g_feats=np.ones((2, 3)), q_pids=[1], g_pids=[1, 2])
    found = FeatureSet.load(tmp_path / "theirs.npz")
    assert (found.name, found.protocol) == ("theirs", "leave-self-out")
    assert [sample.path.name for sample in found.query + found.gallery] == ["q[0]", "g[0]", "g[1]"]
    cameras = {"q_camids": [0], "g_camids": [0, 1]}
    np.savez(
        tmp_path / "theirs.npz", q_feats=np.ones((1, 3)), g_feats=np.ones((2, 3)), q_pids=[1], g_pids=[1, 2], **cameras
    )
    assert FeatureSet.load(tmp_path / "theirs.npz").protocol == "cross-camera"


GOOD = {"q_feats": np.ones((1, 3)), "g_feats": np.ones((2, 3)), "q_pids": np.array([1]), "g_pids": np.array([1, 2])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"g_pids": np.array([1])}, r"g_pids is int64 of shape \(1,\); give 2 integers or texts"),
        ({"q_pids": np.array([1.5])}, "q_pids is float64"),
        ({"q_camids": np.array(["a"]), "g_camids": np.array([0, 1])}, "q_camids is <U1 .*give 1 integers"),
        ({"g_paths": np.array([1, 2])}, "g_paths is int64 .*give 2 texts"),
        ({"q_feats": np.float64(3)}, "q_pids|q_feats"),
        ({"q_pids": None}, "lacks q_pids; it has"),
        ({"q_camids": np.array([0])}, "only one of q_camids and g_camids"),
        ({"protocol": "vehicleid-10"}, "vehicleid-10 draws its gallery from the queries"),
        ({"part_small": np.array([0, 1])}, "part_small is int64 .*give rows from 0 to 0"),
        ({"q_pictures": np.array([1])}, "give q_pictures and g_pictures both, 1 and 2 integers"),
        ({"q_pictures": np.array([1]), "g_pictures": np.array([1])}, "q_pictures and g_pictures both, 1 and 2"),
        ({"q_pictures": np.array(["a"]), "g_pictures": np.array([1, 2])}, "q_pictures and g_pictures both"),
        ({"q_paths": np.array([b"a.jpg"])}, "q_paths is .*give 1 texts"),
    ],
)
def test_bad_archives_are_refused(tmp_path, change, words):
    arrays = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(EvaluationError, match=words):
        evaluate_protocol(FeatureSet.load(tmp_path / "bad.npz"))


def test_no_archive(tmp_path):
    with pytest.raises(EvaluationError, match="does not exist"):
        FeatureSet.load(tmp_path / "nowhere.npz")
    (tmp_path / "notes.npz").write_text("hello")
    with pytest.raises(EvaluationError, match=r"not a readable \.npz archive"):
        FeatureSet.load(tmp_path / "notes.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    (tmp_path / "empty.npz").touch()
    for name in ("single", "empty"):
        with pytest.raises(EvaluationError, match=r"not a readable \.npz archive"):
            FeatureSet.load(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "pickled.npz", q_feats=np.array([{}], dtype=object))
    with pytest.raises(EvaluationError, match=r"not a readable \.npz archive"):
        FeatureSet.load(tmp_path / "pickled.npz")

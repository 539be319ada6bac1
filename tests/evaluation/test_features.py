"""Features saved and read again; archives of others; queries of one file against the gallery of another."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from svllreid.embedding.contract import EmbeddingSpec
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


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_tensors_of_a_network_are_saved(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    images, features = samples(1, 2), torch.ones(2, 3, dtype=kind, requires_grad=True)
    FeatureSet("mine", images, images, features, features, "cross-camera").save("~/mine.npz")
    assert FeatureSet.load("~/mine.npz").q_feats.tolist() == [[1, 1, 1]] * 2


def test_features_of_other_images_are_not_saved(tmp_path):
    images = samples(1, 2)
    with pytest.raises(EvaluationError, match=r"g_feats has shape \(3, 4\), and there are 2 images"):
        FeatureSet("mine", images, images, np.ones((2, 4)), np.ones((3, 4)), "cross-camera").save(tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize(
    ("camids", "notes"),
    [([-1, -1, -1], ()), ([0, -1, 1], ("1 of 3 images have no camera, so all are ranked as if",))],
)
def test_unknown_cameras_of_others_are_no_camera(tmp_path, camids, notes):
    cameras = {"q_camids": camids[:1], "g_camids": camids[1:]}
    np.savez(tmp_path / "theirs.npz", **GOOD, **cameras)
    found = FeatureSet.load(tmp_path / "theirs.npz")
    assert found.protocol == "leave-self-out"
    assert len(found.notes) == len(notes) and all(map(str.startswith, found.notes, notes))


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


def test_an_archive_that_would_fill_the_memory_is_not_read(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", **GOOD, extra=np.zeros(10_000_000))
    with pytest.raises(
        EvaluationError, match=r"not a readable \.npz archive of plain arrays: it would unfold to 0\.1 GB"
    ):
        FeatureSet.load(tmp_path / "bomb.npz")


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


SPEC = EmbeddingSpec(
    weights="a" * 64,
    dim=3,
    image_size=(256, 128),
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.5, 0.5, 0.5),
    neck="before",
    flip=False,
    normalized=True,
    sie_camera=False,
    sie_view=False,
    sie_coe=0.0,
    sie_table="",
    precision="32",
)


def feature_set(name="day", spec=SPEC, size=3, protocol="cross-camera", notes=()):
    query, gallery = samples(1, 2), samples(2, 3, 4)
    return FeatureSet(name, query, gallery, np.ones((2, size)), np.ones((3, size)), protocol, notes, spec=spec)


def test_the_model_is_saved_with_its_features(tmp_path, caplog):
    caplog.set_level("INFO")
    feature_set().save(tmp_path / "features.npz")
    assert FeatureSet.load(tmp_path / "features.npz").spec == SPEC and not caplog.records
    feature_set(spec=None).save(tmp_path / "features.npz")
    assert FeatureSet.load(tmp_path / "features.npz").spec is None
    assert "features.npz does not say which model its features are of" in caplog.text


@pytest.mark.parametrize(
    ("embedding", "words"),
    [
        ("{", "embedding is not JSON"),
        ("[]", "embedding: list instead of fields"),
        (json.dumps({**SPEC.to_dict(), "later": 1}), "another version of svllreid .'later' is not known"),
        (json.dumps(replace(SPEC, dim=4).to_dict()), r"q_feats has shape \(1, 3\), its model makes 4"),
    ],
)
def test_records_that_do_not_belong_to_the_features(tmp_path, embedding, words):
    np.savez(tmp_path / "f.npz", **GOOD, embedding=embedding)
    with pytest.raises(EvaluationError, match=rf"f\.npz: .*{words}"):
        FeatureSet.load(tmp_path / "f.npz")


def test_queries_of_one_file_against_the_gallery_of_another(tmp_path, caplog):
    night = feature_set("night", replace(SPEC, precision="16-mixed"), notes=("dark",))
    both = feature_set(notes=("bright",)).with_gallery_of(night)
    assert (both.name, both.notes, both.spec) == ("day+night", ("bright", "dark"), SPEC)
    assert both.gallery is night.gallery and both.g_feats is night.g_feats and not caplog.records
    both.save(tmp_path / "both.npz")
    assert FeatureSet.load(tmp_path / "both.npz").gallery == night.gallery


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"spec": replace(SPEC, weights="b" * 64)},
            r"queries \(day\) and of the gallery \(night\) cannot .*weights is",
        ),
        ({"spec": replace(SPEC, normalized=False)}, "normalized is true and false"),
        ({"spec": None, "size": 4}, "have 3 dimensions, .* 4; use the same model"),
        ({"protocol": "leave-self-out"}, "by cross-camera, .* by leave-self-out"),
    ],
)
def test_sets_that_do_not_go_together(other, words):
    with pytest.raises(EvaluationError, match=words):
        feature_set().with_gallery_of(feature_set("night", **other))


def test_a_gallery_that_is_drawn_cannot_be_exchanged():
    drawn = feature_set(protocol="vehicleid-10")
    with pytest.raises(EvaluationError, match="vehicleid-10 draws the gallery"):
        drawn.with_gallery_of(drawn)


def test_an_unknown_model_is_logged(caplog):
    both = feature_set().with_gallery_of(feature_set("night", None))
    line = "it is unknown whether the queries (day) and the gallery (night) are of the same model"
    assert both.notes == (line,) and line in caplog.text
    assert both.spec is None

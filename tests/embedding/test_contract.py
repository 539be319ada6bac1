"""The record of what features are: what it compares, how it is kept, what it refuses."""

import json
from dataclasses import replace

import pytest

from svllreid.embedding.contract import EmbeddingSpec, check_same
from svllreid.errors import EvaluationError

SPEC = EmbeddingSpec(
    weights="a" * 64,
    dim=384,
    image_size=(256, 128),
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.5, 0.5, 0.5),
    neck="before",
    flip=False,
    normalized=True,
    sie_camera=True,
    sie_view=False,
    sie_coe=3.0,
    sie_table="b" * 64,
    precision="32",
)
OTHERS = {
    "weights": "c" * 64,
    "dim": 1280,
    "image_size": (128, 256),
    "pixel_mean": (0.5, 0.5, 0.4),
    "pixel_std": (0.5, 0.5, 0.4),
    "neck": "after",
    "flip": True,
    "normalized": False,
    "sie_camera": False,
    "sie_view": True,
    "sie_coe": 1.0,
    "sie_table": "",
    "metric": "cosine",
}


def test_round_trip_through_json():
    content = json.loads(json.dumps(SPEC.to_dict()))
    assert EmbeddingSpec.from_dict(content) == SPEC
    assert content["fingerprint"] == SPEC.fingerprint and len(SPEC.fingerprint) == 16


def test_every_field_but_precision_makes_features_incomparable():
    assert set(OTHERS) | {"precision"} == set(SPEC.to_dict()) - {"fingerprint"}
    for name, value in OTHERS.items():
        other = replace(SPEC, **{name: value})
        assert other.fingerprint != SPEC.fingerprint, name
        with pytest.raises(EvaluationError, match=rf"of a\.npz and of b\.npz cannot be compared: {name} is [^;]*$"):
            check_same(SPEC, other, ("a.npz", "b.npz"))
    check_same(SPEC, replace(SPEC, precision="bf16-mixed"))


def test_int8_is_compared_with_other_precisions_and_noted(caplog):
    int8, half = replace(SPEC, precision="int8"), replace(SPEC, precision="16-mixed")
    for pair in ((SPEC, half), (int8, int8)):
        check_same(*pair)
        assert not caplog.records
    check_same(SPEC, int8, ("a.npz", "b.npz"))
    assert "a.npz are in precision 32 and those of b.npz in int8" in caplog.text


def test_all_that_differs_is_named_with_both_values():
    with pytest.raises(EvaluationError, match=r'weights is a{8}… and c{8}…; neck is "before" and "after"\. Embed'):
        check_same(SPEC, replace(SPEC, weights="c" * 64, neck="after"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"neck": None}, "another version of svllreid .neck is missing"),
        ({"fingerprint": None}, "fingerprint is missing"),
        ({"patch": 16}, "'patch' is not known"),
        ({"neck": "after"}, "was changed or damaged"),
        ({"dim": "384"}, "was changed or damaged"),
        ({"precision": 32}, "was changed or damaged"),
        ({"image_size": {"height": 256}}, "was changed or damaged"),
    ],
)
def test_records_that_cannot_be_read(change, words):
    content = {**SPEC.to_dict(), **change}
    for name in [name for name, value in content.items() if value is None]:
        del content[name]
    with pytest.raises(EvaluationError, match=words):
        EmbeddingSpec.from_dict(content, "features.npz: embedding")


@pytest.mark.parametrize("content", [[], "text", None])
def test_a_record_that_is_no_dictionary(content):
    with pytest.raises(EvaluationError, match=r"features\.npz: embedding: .*instead of fields"):
        EmbeddingSpec.from_dict(content, "features.npz: embedding")

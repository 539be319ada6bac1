"""Every protocol: by hand, against its definition in a loop, and its properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranking_oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.errors import EvaluationError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import evaluate_protocol, trials
from svllreid.evaluation.ranking.measures import MEASURES
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.types import Sample


def images(pids: Any, camids: Any = None, name: str = "image") -> tuple[Sample, ...]:
    camids = [-1] * len(pids) if camids is None else camids
    return tuple(
        Sample(Path(f"{name}{i}.jpg"), pid, camid) for i, (pid, camid) in enumerate(zip(pids, camids, strict=True))
    )


def column(values: Any) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def vehicles(pids: Any, feats: Any, parts: Any = None) -> FeatureSet:
    return FeatureSet("VehicleID", images(pids), (), feats, feats[:0], "vehicleid-10", (), parts or {})


def test_cross_camera_by_hand() -> None:
    query, gallery = images([1], [0]), images([1, 2, 1], [0, 0, 1])
    outcome = evaluate_protocol(FeatureSet("any", query, gallery, column([0]), column([1, 2, 3]), "cross-camera"))
    assert outcome.metrics == {
        "mAP": 0.5, "mINP": 0.5, "rank1": 0, "rank5": 1, "rank10": 1,
        "num_queries": 1, "num_valid_queries": 1, "num_gallery": 3, "protocol": "cross-camera", "re_ranking": False,
    }  # fmt: skip
    (part,) = outcome.parts
    assert part.name == "" and part.ranking.average_precisions.tolist() == [0.5]


def test_leave_self_out_by_hand() -> None:
    everything = images([1, 2, 1, 3])
    feats = column([0, 1, 2, 9])
    outcome = evaluate_protocol(FeatureSet("own", everything, everything, feats, feats, "leave-self-out"))
    # identity 1: the other image is second for both (0 finds 1 at 1 first; 2 finds 1 at 1 first); 2 and 3 have no other
    assert (outcome.metrics["mAP"], outcome.metrics["num_valid_queries"]) == (0.5, 2)
    assert outcome.parts[0].trial.nearest([0], k=2).tolist() == [[1, 2]]


def test_unknown_cameras_keep_other_files_of_the_query_in() -> None:
    query, gallery = images([1], name="query"), images([1, 1], name="gallery")
    outcome = evaluate_protocol(FeatureSet("own", query, gallery, column([0]), column([1, 2]), "leave-self-out"))
    assert outcome.parts[0].ranking.num_matches.tolist() == [2]


def test_vehicleid_by_hand() -> None:
    # two images an identity: whichever is drawn, the other finds it at rank 1 or 2 of two
    outcome = evaluate_protocol(vehicles([1, 1, 2, 2], column([0, 1, 1.5, 2.5])))
    assert (outcome.metrics["num_queries"], outcome.metrics["num_gallery"]) == (2, 2)
    rows = set()
    for trial in trials(vehicles([1, 1, 2, 2], column([0, 1, 1.5, 2.5])))["all"]:
        rows.add(tuple(sample.path.name for sample in trial.gallery))
        assert len({sample.pid for sample in trial.gallery}) == len(trial.gallery) == 2
    assert len(rows) > 1, "draws differ"
    assert outcome.metrics["parts"]["all"]["deviation"]["mAP"] >= 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 8))
def test_vehicleid_is_the_mean_over_ten_draws(seed: int, count: int, identities: int) -> None:
    random = np.random.default_rng(seed)
    pids = random.integers(0, identities, count)
    pids[0] = pids[1]
    feats = random.standard_normal((count, 3)).astype(np.float32)
    features = vehicles(pids.tolist(), feats)
    found = evaluate_protocol(features).metrics
    expected = []
    for trial in trials(features)["all"]:
        gallery = {sample.path for sample in trial.gallery}
        assert len(gallery) == len(set(pids.tolist()))
        assert gallery | {sample.path for sample in trial.query} == {sample.path for sample in features.query}
        assert len(trial.query) == count - len(set(pids.tolist()))
        distmat = ((np.float64(trial.q_feats)[:, None] - np.float64(trial.g_feats)) ** 2).sum(-1)
        result = ranking_oracle.ranking(distmat, [s.pid for s in trial.query], [s.pid for s in trial.gallery])
        expected.append([result.mean_ap, result.mean_inp, *(result.cmc[k - 1] for k in (1, 5, 10))])
        assert result.num_valid_queries == len(trial.query), "each query has its one match"
    np.testing.assert_allclose([found[name] for name in MEASURES], np.mean(expected, axis=0), atol=1e-9)
    block = found["parts"]["all"]["deviation"]
    np.testing.assert_allclose([block[name] for name in MEASURES], np.std(expected, axis=0, ddof=1), atol=1e-9)


def test_one_image_identities_are_distractors_only() -> None:
    features = vehicles([1, 1, 2], column([0, 5, 1]))
    for trial in trials(features)["all"]:
        assert [sample.pid for sample in trial.query] == [1]
        assert sorted(sample.pid for sample in trial.gallery) == [1, 2]


def test_every_part_is_ranked_and_the_first_stands_for_all() -> None:
    random = np.random.default_rng(2)
    pids = np.repeat(np.arange(10), 4)
    feats = (random.standard_normal((10, 6))[pids] + random.standard_normal((40, 6))).astype(np.float32)
    parts = {"small": np.arange(12), "large": np.arange(40)}
    told: list[tuple[int, int]] = []
    outcome = evaluate_protocol(
        vehicles(pids.tolist(), torch.from_numpy(feats), parts), progress=lambda *now: told.append(now)
    )
    blocks = outcome.metrics["parts"]
    assert list(blocks) == ["small", "large"]
    assert [(block["num_queries"], block["num_gallery"]) for block in blocks.values()] == [(9, 3), (30, 10)]
    assert outcome.metrics["mAP"] == blocks["small"]["mAP"] > blocks["large"]["mAP"]
    alone = evaluate_protocol(vehicles(pids.tolist(), feats, {"large": parts["large"]}))
    assert alone.metrics["parts"]["large"] == blocks["large"], "the same draws with and without the others"
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == sorted(done for done, _ in told)


def test_order_of_the_images_changes_no_identity_drawn() -> None:
    draws = [[s.pid for s in trial.gallery] for trial in trials(vehicles([3, 1, 1, 3], column([0, 1, 2, 3])))["all"]]
    assert all(sorted(pids) == [1, 3] for pids in draws)


def test_reranking_reaches_every_protocol() -> None:
    random = np.random.default_rng(3)
    pids = np.repeat(np.arange(5), 6).tolist()
    feats = random.standard_normal((30, 4)).astype(np.float32)
    plain = evaluate_protocol(vehicles(pids, feats)).metrics
    again = evaluate_protocol(vehicles(pids, feats), rerank=RerankOptions(5, 2)).metrics
    assert again["re_ranking"] and again["mAP"] != plain["mAP"]
    assert again["re_ranking_options"] == {"k1": 5, "k2": 2, "lambda_value": 0.3}
    assert not plain["re_ranking"] and "re_ranking_options" not in plain


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (FeatureSet("x", images([1]), (), column([1]), column([]), "cross-camera"), "empty gallery split"),
        (FeatureSet("x", (), images([1]), column([]), column([1]), "cross-camera"), "empty query split"),
        (FeatureSet("x", images([1]), (), column([1]), column([]), "vehicleid"), "'vehicleid' is not known; one of"),
        (vehicles([1, 2], column([0, 1])), "no identity has two images"),
        (vehicles([], column([])), "no identity has two images"),
        (
            FeatureSet("x", images([1], [0]), images([1], [0]), column([1]), column([1]), "cross-camera"),
            "all matches are junk",
        ),
    ],
)
def test_what_cannot_be_ranked(features: FeatureSet, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        evaluate_protocol(features)

"""A calibration from features of labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from svllreid.arguments import whole_number
from svllreid.calibration.calibration import Calibration
from svllreid.calibration.means import deal, mean_feature
from svllreid.calibration.pairs import LabelledFeatures, PairCounts, count_pairs, distances_of, draw_pairs
from svllreid.calibration.probability import (
    DrawnPairs,
    fit_probability,
    held_out_probabilities,
    reliability,
)
from svllreid.calibration.rates import RATES, curve_of, identity_intervals, point_at
from svllreid.calibration.record import ALL, PAIRS, CalibrationRecord, CameraPair, PairGroup, PairKind, RatePoint
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import ProgressCallback, ProgressCounter
from svllreid.types import UNKNOWN

Judged = tuple[DrawnPairs, np.ndarray]  # pairs of identities held out, and their probabilities

MOST_PAIRS = 200_000
"""The probability is fitted to at most so many genuine pairs and so many impostors, drawn where there are more."""


def calibrate(
    features: Any,
    pids: Sequence[Any] | np.ndarray,
    camids: Sequence[int] | np.ndarray | None = None,
    *,
    spec: EmbeddingSpec,
    dataset: str,
    method: str = "logistic",
    seed: int = 0,
    left_out: int = 0,
    mean_of: int = 1,
    progress: ProgressCallback | None = None,
) -> Calibration:
    """Measure what distances of a model's features mean, from all pairs of labelled images.

    Each unordered pair of two images counts once. The images should be of identities that the model was not trained
    on: their distances are others.

    Args:
        features: (N, D) floats, as `Encoder.encode` returns them.
        pids: (N,) identities, integers or texts.
        camids: (N,) cameras; -1 where unknown. None: all are unknown, so that only `all` pairs are measured.
        spec: the record of the model and settings that made the features.
        dataset: the name of the images.
        method: `logistic` or `isotonic`, see `fit_probability`.
        seed: of the pairs that are drawn to fit the probability, and of the identities held out to judge it.
        left_out: number of images that had no identity, for the record.
        mean_of: number of images of one identity and camera that are averaged to one feature before all comparisons, as
            `svllreid verify` does with several images; they are drawn, and what is left of an identity stays out.
        progress: called as `progress(done, total)`, in pairs, each counted three times.
    Raises: EvaluationError: labels or features that do not fit each other, no pair of one identity or none of two, or
        genuine pairs that are no nearer than impostors.
    """
    labelled = _labelled(features, pids, camids, spec)
    mean_of = whole_number(mean_of, "mean_of", EvaluationError)
    if mean_of > 1:
        labelled = _means(labelled, mean_of, seed, normalized=spec.normalized)
    images = len(labelled.pids)
    counter = ProgressCounter(progress, 3 * images * (images - 1) // 2)
    kinds, by_cameras = count_pairs(labelled, counter.add)
    whole = kinds[ALL]
    if whole.verification is None:
        raise EvaluationError(
            f"{dataset}: {whole.genuine} pairs of one identity and {whole.impostor} of two; calibrating needs both: "
            "several identities, some with several images"
        )
    if whole.verification.auc <= 0.5:
        raise EvaluationError(
            f"{dataset}: pairs of one identity are no nearer than pairs of two, so distances of this model do not tell "
            "identities; check the labels and the model"
        )
    drawn = {kind: _draw(labelled, kind, seed) for kind in PAIRS if kind in kinds and kinds[kind].verification}
    judged = {kind: held_out_probabilities(pairs, method, seed) for kind, pairs in drawn.items()}
    groups = {kind: _group(kinds[kind], pairs, method, judged[kind]) for kind, pairs in drawn.items()}
    groups = _with_intervals(groups, labelled, counter.add)
    record = CalibrationRecord(
        dataset=dataset,
        embedding=spec.to_dict(),
        images=images,
        left_out=left_out,
        identities=int(labelled.pids.max()) + 1,
        cameras=labelled.cameras,
        seed=seed,
        mean_of=mean_of,
        pairs=groups,
        camera_pairs=tuple(
            _camera_pair(cameras, counts, judged[ALL]) for cameras, counts in sorted(by_cameras.items())
        ),
    )
    return Calibration(record)


def _labelled(features: Any, pids: Any, camids: Any, spec: EmbeddingSpec) -> LabelledFeatures:
    """The images, checked."""
    values, names = np.asarray(features), np.asarray(pids)
    if values.ndim != 2 or values.shape[1] != spec.dim:
        raise EvaluationError(f"features have shape {values.shape}; their model makes {spec.dim} numbers an image")
    cameras = np.full(len(values), UNKNOWN) if camids is None else np.asarray(camids)
    if names.shape != (len(values),) or cameras.shape != (len(values),):
        raise EvaluationError(
            f"{len(values)} features, pids of shape {names.shape}, camids of shape {cameras.shape}; give one an image"
        )
    if names.dtype.kind not in "iuU" or (len(cameras) and cameras.dtype.kind not in "iu"):
        raise EvaluationError(
            f"pids are {names.dtype} and camids {cameras.dtype}; give integers or texts, and integers"
        )
    if len(values) < 2:
        raise EvaluationError(f"{len(values)} images with an identity make no pair; give more")
    codes = np.unique(names, return_inverse=True)[1]
    return LabelledFeatures(values, codes, np.maximum(cameras.astype(np.int64), UNKNOWN))


def _means(labelled: LabelledFeatures, size: int, seed: int, *, normalized: bool) -> LabelledFeatures:
    """Means of images of one identity and camera, as the images that are compared."""
    groups = deal(labelled.pids, labelled.camids, size, seed)
    if len(groups) < 2:
        raise EvaluationError(f"fewer than two means of {size} images of one identity and camera; average fewer")
    means = [mean_feature(labelled.features[rows], normalized=normalized) for rows in groups]
    first = np.array([rows[0] for rows in groups])
    codes = np.unique(labelled.pids[first], return_inverse=True)[1]
    return LabelledFeatures(np.concatenate(means), codes, labelled.camids[first])


def _draw(labelled: LabelledFeatures, kind: PairKind, seed: int) -> DrawnPairs:
    """Pairs of both kinds to fit the probability to."""
    generator = np.random.default_rng(seed)
    parts = [
        draw_pairs(labelled, kind, genuine=genuine, most=MOST_PAIRS, generator=generator) for genuine in (True, False)
    ]
    rows = np.concatenate(parts)
    return DrawnPairs(
        distances_of(labelled.features, rows),
        np.repeat([True, False], [len(part) for part in parts]),
        labelled.pids[rows],
        np.sort(labelled.camids[rows], axis=1),
    )


def _group(counts: PairCounts, pairs: DrawnPairs, method: str, judged: Judged | None) -> PairGroup:
    """What the file says of one kind of pairs."""
    verification = counts.verification
    if verification is None or len(np.unique(pairs.genuine)) < 2:
        raise EvaluationError("pairs of one identity or of two are too few to be drawn; give more images")
    points = tuple(point_at(verification, rate) for rate in RATES)
    return PairGroup(
        genuine=counts.genuine,
        impostor=counts.impostor,
        equal_error_rate=verification.equal_error_rate,
        auc=min(1.0, verification.auc),
        points=points,
        curve=curve_of(verification, points),
        probability=fit_probability(pairs, method),
        fitted_genuine=int(pairs.genuine.sum()),
        fitted_impostor=int((~pairs.genuine).sum()),
        reliability=None if judged is None else reliability(judged[0].genuine, judged[1]),
    )


def _with_intervals(
    groups: dict[PairKind, PairGroup], labelled: LabelledFeatures, count: Callable[[int], None]
) -> dict[PairKind, PairGroup]:
    """The groups with the intervals over identities, at least as wide as those over pairs, at their thresholds."""
    thresholds = {
        kind: [point.threshold for point in group.points if point.threshold is not None]
        for kind, group in groups.items()
    }
    found = identity_intervals(labelled, thresholds, count)

    def widened(point: RatePoint, kind: PairKind) -> RatePoint:
        if point.threshold is None or point.interval is None:
            return point
        interval = found[kind][thresholds[kind].index(point.threshold)]
        if interval is None:
            return point
        low, high = min(interval[0], point.interval[0]), max(interval[1], point.interval[1])
        return point.model_copy(update={"identity_interval": (low, high)})

    return {
        kind: group.model_copy(update={"points": tuple(widened(point, kind) for point in group.points)})
        for kind, group in groups.items()
    }


def _camera_pair(cameras: tuple[int, int], counts: PairCounts, judged: Judged | None) -> CameraPair:
    """A line of the table of camera pairs."""
    found = None
    if judged is not None:
        chosen = (judged[0].cameras == cameras).all(axis=1)
        found = reliability(judged[0].genuine[chosen], judged[1][chosen])
    verification = counts.verification
    return CameraPair(
        cameras=cameras,
        genuine=counts.genuine,
        impostor=counts.impostor,
        equal_error_rate=None if verification is None else verification.equal_error_rate,
        point=None if verification is None else point_at(verification, RATES[0]),
        reliability=found,
    )

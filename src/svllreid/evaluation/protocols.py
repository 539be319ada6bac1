"""The protocols: which gallery images each query is ranked against, which are junk, and which numbers are reported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from svllreid.errors import EvaluationError
from svllreid.evaluation.analysis import Analysis, analyse
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.ranking.blocks import ProgressCallback
from svllreid.evaluation.ranking.matches import Matches
from svllreid.evaluation.ranking.measures import MEASURES, Ranking, evaluate_features
from svllreid.evaluation.ranking.nearest import nearest
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.types import Sample

PROTOCOLS = ("cross-camera", "leave-self-out", "vehicleid-10")
DRAWS = 10


@dataclass(frozen=True)
class Trial:
    """One query set that is ranked against one gallery.

    Args:
        query, gallery: the images.
        q_feats, g_feats: (Nq, D) and (Ng, D) features.
        groups: (Nq,) and (Ng,) numbers; a gallery image with the identity and the group of the query is junk. None:
            there is no junk.
    """

    query: Sequence[Sample]
    gallery: Sequence[Sample]
    q_feats: Any
    g_feats: Any
    groups: tuple[np.ndarray, np.ndarray] | None

    @property
    def arguments(self) -> dict[str, Any]:
        """Features and labels by name, as the arguments of `evaluate_features`, `verify_features` and `nearest`."""
        junk = (None, None) if self.groups is None else self.groups
        return {
            "q_feats": self.q_feats,
            "g_feats": self.g_feats,
            "q_pids": _pids(self.query),
            "g_pids": _pids(self.gallery),
            "q_camids": junk[0],
            "g_camids": junk[1],
        }

    def nearest(self, rows: Sequence[int], k: int = 10) -> np.ndarray:
        """The nearest gallery images of some queries, without junk.

        Args:
            rows: the queries, counted from 0.
            k: how many for each query.
        Returns: (len(rows), k) int64 gallery rows, nearest first; −1 where the gallery has no more.
        """
        chosen = list(rows)
        arguments = self.arguments
        for name in ("q_feats", "q_pids", "q_camids"):
            arguments[name] = None if arguments[name] is None else arguments[name][chosen]
        return nearest(**arguments, k=k)


@dataclass(frozen=True)
class Part:
    """The result of one part of a test; a test without parts has one, with an empty name.

    Args:
        name: empty, or the name of the part, such as VehicleID's small, medium and large.
        trial: what was ranked; where the protocol draws several trials, the first one.
        ranking: the ranking of that trial.
        metrics: MEASURES (fractions; where there are several trials, their means) and the counts of images.
        analysis: the analysis of that trial; None where it was not asked for.
    """

    name: str
    trial: Trial
    ranking: Ranking
    metrics: dict[str, Any]
    analysis: Analysis | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a test: its metrics as metrics.json holds them (fractions), and its parts."""

    metrics: dict[str, Any]
    parts: tuple[Part, ...]


def evaluate_protocol(
    features: FeatureSet,
    *,
    rerank: RerankOptions | None = None,
    analysed: bool = False,
    device: torch.device | str | None = None,
    progress: ProgressCallback | None = None,
) -> Outcome:
    """Rank test images under their protocol and return the metrics.

    - `cross-camera`: gallery images of the query's identity and camera are junk.
    - `leave-self-out`, for images without cameras: gallery images that are the same picture as the query are junk.
    - `vehicleid-10`: ten times, one image of each identity is drawn as the gallery, and all others are queries. Each
      part gets the mean and the sample standard deviation of the ten; the overall metrics are those of the first part.

    Args:
        features: the images with their features, and the protocol.
        rerank, device: see `evaluate_features`.
        analysed: whether to verify and compare cameras too, see `analyse`; of ten trials only the first is analysed.
        progress: called as `progress(done, total)`.
    Raises: EvaluationError: no query has a match left, the features cannot be ranked, or the protocol is unknown.
    """
    trials_by_part = trials(features)
    parts = []
    for number, (name, part_trials) in enumerate(trials_by_part.items()):
        first, analysis, rankings = None, None, list[Ranking]()
        for trial in part_trials:
            before, count = number * DRAWS + len(rankings), len(trials_by_part) * DRAWS
            trial_progress = _share_of(progress, before, count) if name else progress
            options: dict[str, Any] = {"rerank": rerank, "device": device, "progress": trial_progress}
            if first is None and analysed:
                compared = features.protocol == "cross-camera"
                analysis = analyse(**trial.arguments, cameras=compared, **options)
                rankings.append(analysis.ranking)
            else:
                rankings.append(evaluate_features(**trial.arguments, **options))
            first = first or trial
        if first is not None:
            parts.append(Part(name, first, rankings[0], _metrics(first, rankings), analysis))
    named = {part.name: part.metrics for part in parts if part.name}
    overall: dict[str, Any] = {"protocol": features.protocol, "re_ranking": rerank is not None}
    if rerank is not None:
        overall["re_ranking_options"] = asdict(rerank)
    return Outcome(parts[0].metrics | overall | ({"parts": named} if named else {}), tuple(parts))


def trials(features: FeatureSet) -> dict[str, Iterator[Trial]]:
    """The trials of each part by its name, see `evaluate_protocol`; a test without parts has one under an empty name.

    Raises: EvaluationError: the protocol is unknown, no identity has two images to draw from, or a split is empty.
    """
    if features.protocol not in PROTOCOLS:
        raise EvaluationError(f"protocol {features.protocol!r} is not known; one of {', '.join(PROTOCOLS)}")
    if features.protocol == "vehicleid-10":
        parts = features.parts or {"all": np.arange(len(features.query))}
        for name, rows in parts.items():
            if len(np.unique(_pids([features.query[row] for row in rows]))) == len(rows):
                raise EvaluationError(
                    f"{features.name} {name}: no identity has two images, so there is no query; check the list"
                )
        return {name: _drawn(features, rows) for name, rows in parts.items()}
    for name, samples in (("query", features.query), ("gallery", features.gallery)):
        if not samples:
            raise EvaluationError(f"{features.name} has an empty {name} split; nothing to test")
    whole = Trial(features.query, features.gallery, features.q_feats, features.g_feats, _groups(features))
    return {"": iter([whole])}


def check_countable(features: FeatureSet) -> None:
    """Check that every part of a test has a query with a match; this needs identities and cameras, but no features.

    So it can be called before any image is embedded.

    Args:
        features: the test images; their features may have any dimension, also 0.
    Raises: EvaluationError: see `evaluate_protocol`; the message names the dataset and its part.
    """
    for name, draws in trials(features).items():
        arguments = next(draws).arguments
        shape = len(arguments.pop("q_feats")), len(arguments.pop("g_feats"))
        try:
            Matches(shape, **arguments).require_match()
        except EvaluationError as error:
            raise EvaluationError(f"{' '.join(filter(None, (features.name, name)))}: {error}") from None


def _groups(features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
    """The groups of queries and gallery, see `Trial`: their cameras, or numbers of their pictures."""
    both = features.query, features.gallery
    if features.protocol == "leave-self-out" and features.pictures is not None:
        return features.pictures
    if features.protocol == "cross-camera":
        query, gallery = (np.array([sample.camid for sample in side]) for side in both)
    else:
        files: dict[Any, int] = {}
        query, gallery = (np.array([files.setdefault(s.path, len(files)) for s in side]) for side in both)
    return query, gallery


def _drawn(features: FeatureSet, rows: np.ndarray) -> Iterator[Trial]:
    """Ten trials, each with one drawn image of each identity as the gallery and the others as queries.

    Args:
        features: under `vehicleid-10`, so that all images are in query.
        rows: rows of query to draw from. The seeds are 0 to 9.
    """
    codes = np.unique(_pids([features.query[row] for row in rows]), return_inverse=True)[1]
    for seed in range(DRAWS):
        order = np.lexsort((np.random.default_rng(seed).random(len(rows)), codes))
        is_gallery = np.zeros(len(rows), bool)
        is_gallery[order[np.diff(codes[order], prepend=-1) > 0]] = True
        q_rows, g_rows = rows[~is_gallery], rows[is_gallery]
        query, gallery = ([features.query[row] for row in chosen] for chosen in (q_rows, g_rows))
        yield Trial(query, gallery, features.q_feats[q_rows], features.q_feats[g_rows], None)


def _pids(samples: Sequence[Sample]) -> np.ndarray:
    return np.array([sample.pid for sample in samples])


def _metrics(trial: Trial, rankings: Sequence[Ranking]) -> dict[str, Any]:
    """Means of the measures over the trials, their standard deviation where there are several, and the counts.

    Args:
        trial: the first trial, whose counts are reported.
        rankings: the ranking of each trial.
    """
    values = np.array([list(ranking.measures().values()) for ranking in rankings])  # (trials, measures)
    metrics: dict[str, Any] = dict(zip(MEASURES, values.mean(axis=0).tolist(), strict=True))
    if len(rankings) > 1:
        metrics["deviation"] = dict(zip(MEASURES, values.std(axis=0, ddof=1).tolist(), strict=True))
    return metrics | {
        "num_queries": len(trial.query),
        "num_valid_queries": rankings[0].num_valid_queries,
        "num_gallery": len(trial.gallery),
    }


def _share_of(progress: ProgressCallback | None, before: int, count: int) -> ProgressCallback | None:
    """A callback for one of `count` equal shares of the work, of which `before` are done; None for None."""
    if progress is None:
        return None
    return lambda done, total: progress(before * total + done, count * total)

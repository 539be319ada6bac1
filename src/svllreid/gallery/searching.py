"""The nearest crops to a query: of several images, of the first of each identity or tracklet, and re-ranked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from svllreid.errors import GalleryError
from svllreid.evaluation.ranking.distance import distances
from svllreid.evaluation.ranking.rerank import RerankOptions, rerank
from svllreid.gallery.conditions import Conditions
from svllreid.gallery.crop import Crop
from svllreid.gallery.milvus import MAX_HITS, MilvusStore
from svllreid.types import UNKNOWN

logger = logging.getLogger(__name__)

Combine = Literal["mean", "best"]
GroupBy = Literal["pid", "tracklet"]
_RERANKED = 200  # at least so many crops are re-ranked


@dataclass(frozen=True)
class SearchOptions:
    """How crops are found.

    Args:
        k: number of hits, or of groups.
        combine: what becomes of several images of one query: one search with the `mean` of their features, or a search
            with each, where a crop's distance is that to the `best` one, the nearest.
        group_by: only the first crop of each identity (`pid`) or `tracklet` is a hit: the nearest, or the best of
            re-ranked ones. A tracklet is known by its name; of crops without one it is those of one identity and
            camera, each at most `gap` after another. Crops without identity or tracklet stand alone.
        gap: seconds between two images of a tracklet.
        rerank: re-rank the nearest max(200, 10 k) crops by k-reciprocal re-ranking, more where these belong to fewer
            than k groups; None: do not.
        threshold: the largest distance of a hit; None: any.
    Raises: GalleryError: a value is out of range.
    """

    k: int = 10
    combine: Combine = "mean"
    group_by: GroupBy | None = None
    gap: float = 10.0
    rerank: RerankOptions | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_HITS:
            raise GalleryError(f"k is {self.k}; give 1 to {MAX_HITS} hits")
        if not self.gap >= 0:
            raise GalleryError(f"gap is {self.gap}; give seconds, 0 or more")
        if self.threshold is not None and np.isnan(self.threshold):
            raise GalleryError("threshold is no number; give a distance")
        if self.threshold is not None and not self.threshold >= 0:
            raise GalleryError(f"the threshold is {self.threshold}; distances are 0 or more")
        for name, value, choices in (
            ("combine", self.combine, ("mean", "best")),
            ("group_by", self.group_by, (None, "pid", "tracklet")),
        ):
            if value not in choices:
                raise GalleryError(f"{name} is {value!r}; give one of {', '.join(map(repr, choices))}")


def decision_note(images: int, combine: Combine, calibrated: int) -> str:
    """What to know about a decision that stands on another number of images than was calibrated; empty: nothing.

    Args:
        images: of the query.
        combine: what becomes of several, see `SearchOptions`.
        calibrated: of how many images each feature that was calibrated is the mean.

    >>> decision_note(2, "mean", 1)[:77]
    'the query is a mean of 2 images, and the calibration is of single images: mea'
    """
    if combine == "best" and images > 1:
        return (
            f"each of the {images} images of the query is compared, so up to {images} times as many crops are accepted "
            "by chance as the rate says"
        )
    mean_of = images if combine == "mean" else 1
    if mean_of == calibrated:
        return ""
    query, calibration = (
        one if number == 1 else several.format(number)
        for number, one, several in (
            (mean_of, "a single image", "a mean of {} images"),
            (calibrated, "single images", "means of {} images"),
        )
    )
    more = "means lie nearer to everybody, so more crops are accepted by chance than its rate says"
    fewer = "fewer images lie farther from everybody, so crops that show the same are called different more often"
    said = more if mean_of > calibrated else fewer
    return f"the query is {query}, and the calibration is of {calibration}: {said}"


def nearest_crops(
    store: MilvusStore, queries: np.ndarray, options: SearchOptions, conditions: Conditions, *, normalized: bool
) -> list[tuple[Crop, float]]:
    """The hits of one query with their distances, the best first.

    Args:
        queries: (n, D) float32, features of one or several images of the same identity.
        normalized: whether features have length 1, as their mean then has too.
    """
    if options.combine == "mean":
        queries = _mean(queries, normalized)
    limit = min(max(_RERANKED, 10 * options.k) if options.rerank else options.k, MAX_HITS)
    while True:
        crops, vectors, reach = _candidates(store, queries, limit, conditions)
        ranked = _ranked(queries, crops, vectors, options)
        if options.group_by is None:
            return ranked[: options.k]
        known = ranked if options.rerank else [(crop, distance) for crop, distance in ranked if distance <= reach]
        hits = _first_of_each(known, _group(ranked, options))
        # Groups may need more crops than there are hits.
        if len(hits) >= options.k or reach >= (np.inf if options.threshold is None else options.threshold):
            return hits[: options.k]
        if limit == MAX_HITS:
            logger.warning(
                "the nearest %d crops belong to %d groups; more crops are not looked at, so there may be others",
                MAX_HITS,
                len(hits),
            )
            return hits
        limit = min(4 * limit, MAX_HITS)


def _mean(queries: np.ndarray, normalized: bool) -> np.ndarray:
    mean = queries.astype(np.float64).mean(0, keepdims=True)  # (1, D)
    if normalized:
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
    return mean.astype(np.float32) if len(queries) > 1 else queries


def _candidates(
    store: MilvusStore, queries: np.ndarray, limit: int, conditions: Conditions
) -> tuple[list[Crop], np.ndarray, float]:
    """The nearest crops of all queries together, their vectors, and the distance up to which no crop is left out."""
    crops, vectors, reach = dict[str, Crop](), list[np.ndarray](), np.inf
    for query, (hits, features) in zip(queries, store.search(queries, limit, conditions), strict=True):
        if len(hits) >= limit:
            reach = min(reach, float(np.asarray(distances(query[None], features)).max()))
        for crop, vector in zip(hits, features, strict=True):
            if crop.id not in crops:
                crops[crop.id] = crop
                vectors.append(vector)
    return list(crops.values()), np.stack(vectors) if vectors else np.empty((0, queries.shape[1]), np.float32), reach


def _ranked(
    queries: np.ndarray, crops: Sequence[Crop], vectors: np.ndarray, options: SearchOptions
) -> list[tuple[Crop, float]]:
    """Crops within the threshold, the nearest first, or in re-ranked order; equal ones by id."""
    if not crops:
        return []
    near = np.asarray(distances(queries, vectors)).min(0)  # (n,)
    order = near
    if options.rerank is not None:
        chosen = options.rerank
        order = np.asarray(rerank(queries, vectors, k1=chosen.k1, k2=chosen.k2, lambda_value=chosen.lambda_value)).min(
            0
        )
    rows = sorted(range(len(crops)), key=lambda row: (order[row], near[row], crops[row].id))
    limit = np.inf if options.threshold is None else options.threshold
    return [(crops[row], float(near[row])) for row in rows if near[row] <= limit]


def _first_of_each(ranked: Sequence[tuple[Crop, float]], group: Callable[[Crop], object]) -> list[tuple[Crop, float]]:
    firsts: dict[object, tuple[Crop, float]] = {}
    for crop, distance in ranked:
        firsts.setdefault(group(crop), (crop, distance))
    return list(firsts.values())


def _group(ranked: Sequence[tuple[Crop, float]], options: SearchOptions) -> Callable[[Crop], object]:
    """What tells the groups apart: a function of a crop."""
    if options.group_by == "pid":
        return lambda crop: crop.id if crop.pid is None else ("pid", crop.pid)
    tracklets = tracklets_of([crop for crop, _ in ranked], options.gap)
    return lambda crop: tracklets[crop.id]


def tracklets_of(crops: Sequence[Crop], gap: float) -> dict[str, object]:
    """The tracklet of each crop by its id.

    A named tracklet counts by its name, within its camera. Other crops of one identity and camera, sorted by time,
    belong together as long as each follows the one before within `gap` seconds. Without identity, camera or time a
    crop is alone.
    """
    tracklets: dict[str, object] = {}
    last: tuple[object, float, object] | None = None
    alone = [crop for crop in crops if crop.tracklet or crop.pid is None or crop.camid == UNKNOWN or crop.time is None]
    for crop in alone:
        tracklets[crop.id] = (crop.camid, crop.tracklet) if crop.tracklet else crop.id
    timed = [crop for crop in crops if crop.id not in tracklets]
    for crop in sorted(timed, key=lambda crop: (str(crop.pid), crop.camid, crop.time or 0.0)):
        lane, time = (crop.pid, crop.camid), crop.time or 0.0
        same = last is not None and last[0] == lane and time - last[1] <= gap
        tracklets[crop.id] = last[2] if same and last is not None else crop.id
        last = (lane, time, tracklets[crop.id])
    return tracklets

"""Who may match whom: the protocols under which a gallery is ranked, and the numbers reported for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking import Ranking, evaluate_features, nearest
from svllreid.evaluation.rerank import RerankOptions
from svllreid.types import Sample

PROTOCOLS = ("cross-camera", "leave-self-out")


@dataclass(frozen=True)
class Outcome:
    """A ranking with the numbers that go into metrics.json (fractions)."""

    ranking: Ranking
    metrics: dict[str, Any]


def junk_groups(query: Sequence[Sample], gallery: Sequence[Sample], protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """The number that makes a gallery image of the query's identity junk when both share it.

    `cross-camera`: the camera. `leave-self-out` (cameras unknown): the file itself.
    """
    if protocol == "cross-camera":
        return np.array([s.camid for s in query]), np.array([s.camid for s in gallery])
    if protocol == "leave-self-out":
        files: dict[Any, int] = {}
        both = [[files.setdefault(s.path, len(files)) for s in split] for split in (query, gallery)]
        return np.array(both[0]), np.array(both[1])
    raise EvaluationError(f"protocol {protocol!r} cannot be ranked as one query and one gallery; one of {PROTOCOLS}")


def evaluate_split(
    q_feats: Tensor,
    g_feats: Tensor,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    protocol: str,
    *,
    metric: str = "euclidean",
    rerank: RerankOptions | None = None,
    progress: Any = None,
) -> Outcome:
    """Rank a split under its protocol.

    Args:
        q_feats, g_feats: (Nq, D) and (Ng, D) features, in the order of the samples.
        query, gallery: the samples.
        protocol: one of PROTOCOLS.
        metric, rerank, progress: see `evaluate_features`.
    Raises: EvaluationError: no query has a match left, or features that cannot be ranked.
    """
    q_camids, g_camids = junk_groups(query, gallery, protocol)
    ranking = evaluate_features(
        q_feats,
        g_feats,
        [sample.pid for sample in query],
        [sample.pid for sample in gallery],
        q_camids,
        g_camids,
        metric=metric,
        rerank=rerank,
        progress=progress,
    )
    metrics = {
        "mAP": float(ranking.mean_ap),
        "mINP": float(ranking.mean_inp),
        **{f"rank{rank}": float(ranking.cmc[rank - 1]) for rank in (1, 5, 10)},
        "num_queries": len(query),
        "num_valid_queries": int(ranking.num_valid_queries),
        "num_gallery": len(gallery),
        "protocol": protocol,
        "re_ranking": rerank is not None,
    }
    return Outcome(ranking, metrics)


def nearest_of(
    rows: Sequence[int],
    q_feats: Tensor,
    g_feats: Tensor,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    protocol: str,
    k: int = 10,
) -> np.ndarray:
    """The k nearest gallery images of some queries (rows, k), without junk; -1 where there are no more."""
    q_camids, g_camids = junk_groups(query, gallery, protocol)
    chosen = list(rows)
    return nearest(
        q_feats[chosen],
        g_feats,
        [query[row].pid for row in chosen],
        [sample.pid for sample in gallery],
        q_camids[chosen],
        g_camids,
        k=k,
    )

"""How well clusters agree with known identities."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from svllreid.clustering.density import ALONE
from svllreid.libraries import need


@dataclass(frozen=True)
class Agreement:
    """The measures of clusters against identities, over the images whose identity is known.

    An image in no cluster counts as a cluster of its own: it lowers the recall, and not the precision.

    Args:
        images: number of images with a known identity.
        identities: how many identities they are of.
        clusters: how many clusters have one of them.
        unclustered: how many of these images are in no cluster.
        found: identities of which more than half of the images are in one cluster, and make more than half of it.
        adjusted_rand_index: agreement of all pairs of images, corrected for chance: 1 where clusters are identities,
            about 0 for clusters drawn at random.
        precision: share of the pairs of images in one cluster that are of one identity; 0 where there is no such pair.
        recall: share of the pairs of images of one identity that are in one cluster; 0 where there is no such pair.
        f1: harmonic mean of the two.
    """

    images: int
    identities: int
    clusters: int
    unclustered: int
    found: int
    adjusted_rand_index: float
    precision: float
    recall: float
    f1: float

    def to_dict(self) -> dict[str, int | float]:
        """All measures by name."""
        return asdict(self)


def agreement(labels: np.ndarray, pids: np.ndarray) -> Agreement | None:
    """Compare clusters with identities.

    Args:
        labels: (N,) int64 clusters, ALONE (-1) for images in none.
        pids: (N,) texts, empty where the identity is unknown; such images are left out.
    Returns: the measures; None where no identity is known.
    Raises: EvaluationError: scikit-learn is not installed.
    Source: Hubert and Arabie, Journal of Classification 1985, for the adjusted Rand index.
    Example:
        >>> import numpy as np
        >>> measured = agreement(np.array([0, 0, 0, -1]), np.array(["ann", "ann", "bob", "bob"]))
        >>> measured.found, round(measured.precision, 3), measured.recall
        (1, 0.333, 0.5)
    """
    metrics = need("sklearn.metrics")
    known = pids != ""
    if not known.any():
        return None
    labels, (names, identity) = labels[known], np.unique(pids[known], return_inverse=True)
    alone = labels == ALONE
    clusters = len(np.unique(labels[~alone]))
    single = np.where(alone, labels.max(initial=0) + 1 + np.cumsum(alone), labels)
    (_, wrong), (missed, right) = metrics.cluster.pair_confusion_matrix(identity, single).tolist()
    precision, recall = (right / (right + other) if right else 0.0 for other in (wrong, missed))
    return Agreement(
        images=len(labels),
        identities=len(names),
        clusters=clusters,
        unclustered=int(alone.sum()),
        found=_found(single, identity, alone),
        adjusted_rand_index=float(metrics.adjusted_rand_score(identity, single)),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if right else 0.0,
    )


def _found(labels: np.ndarray, identity: np.ndarray, alone: np.ndarray) -> int:
    """How many identities have a cluster that holds more than half of their images, which are more than half of it."""
    cells, common = np.unique(np.stack([labels, identity])[:, ~alone], axis=1, return_counts=True)
    cluster, person = cells
    sizes = np.bincount(labels)[cluster], np.bincount(identity)[person]
    return int(((2 * common > sizes[0]) & (2 * common > sizes[1])).sum())

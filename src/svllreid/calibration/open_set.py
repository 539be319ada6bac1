"""Open-set search: queries may be of nobody in the gallery, and the right answer is then "nobody"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from svllreid.arguments import share
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matches import Matches
from svllreid.evaluation.ranking.matrix import Features

FALSE_ALARM_RATES = (0.01, 0.1)


@dataclass(frozen=True)
class OpenSetPoint:
    """A threshold on the distance of the nearest gallery image, and what it gives.

    Args:
        threshold: a query whose nearest gallery image is at most so far away is answered with that image, any other
            with "nobody". Below 0 every query is answered with "nobody".
        false_alarm_rate: share of the queries of nobody in the gallery that are answered with an image.
        identification_rate: detection and identification rate (DIR) at rank 1: the share of the queries of somebody in
            the gallery that are answered with an image of that identity.
    """

    threshold: float
    false_alarm_rate: float
    identification_rate: float


@dataclass(frozen=True)
class OpenSet:
    """Nearest gallery images of queries, some of them of nobody in the gallery.

    Args:
        known_distances: (K,) Euclidean distances of the nearest gallery image, of the queries of somebody in it.
        right: (K,) whether that image is of the query's identity.
        unknown_distances: (U,) the same distances of the queries of nobody in the gallery.
        not_counted: number of queries whose images in the gallery are all junk.
    Example:
        >>> import numpy as np
        >>> query, gallery = np.array([[0.0], [5.0], [9.0]]), np.array([[0.1], [5.3]])
        >>> result = open_set(query, gallery, ["ann", "bob", "eve"], ["ann", "bob"])
        >>> result.at(0.01).identification_rate  # eve is 3.7 from bob, and both others are nearer to themselves
        1.0
    """

    known_distances: np.ndarray
    right: np.ndarray
    unknown_distances: np.ndarray
    not_counted: int = 0

    def at(self, false_alarm_rate: float) -> OpenSetPoint:
        """The largest threshold that keeps a false-alarm rate, chosen on these very queries.

        With U queries of nobody the rate can be 0, 1 / U, 2 / U and so on; the largest that is allowed is taken.

        Args:
            false_alarm_rate: the largest allowed share of queries of nobody that are answered with an image, 0 to 1.
        Raises: EvaluationError: a rate outside of 0 to 1.
        """
        rate = share(false_alarm_rate, "false_alarm_rate", EvaluationError)
        unknown = np.sort(self.unknown_distances)
        allowed = int(np.floor(rate * len(unknown) + 1e-9))
        if allowed == len(unknown):
            return self.with_threshold(np.inf)
        return self.with_threshold(np.nextafter(unknown[allowed], np.float32(-np.inf)))

    def with_threshold(self, threshold: float) -> OpenSetPoint:
        """What a threshold gives that was found elsewhere, such as `Calibration.threshold`."""
        return OpenSetPoint(
            float(threshold),
            float((self.unknown_distances <= threshold).mean()),
            float((self.right & (self.known_distances <= threshold)).mean()),
        )


def open_set(
    q_feats: Any,
    g_feats: Any,
    q_pids: Any,
    g_pids: Any,
    q_camids: Any = None,
    g_camids: Any = None,
    *,
    device: torch.device | str | None = None,
) -> OpenSet:
    """Find the nearest gallery image of each query, where some queries are of nobody in the gallery.

    Junk is left out as in `svllreid.evaluate_features`: gallery images of the query's identity and camera. A query
    whose identity has no other images in the gallery is not counted.

    Args:
        q_feats, g_feats, q_pids, g_pids, q_camids, g_camids, device: see `svllreid.evaluate_features`.
    Raises: EvaluationError: features or labels that do not fit each other; or there are not both queries of somebody in
        the gallery and queries of nobody in it.
    Source: Phillips, Grother and Micheals 2011, "Evaluation Methods in Face Recognition", in Li and Jain, "Handbook of
        Face Recognition": the open-set (watch-list) task.
    """
    query = Features(q_feats, "q_feats", device)
    gallery = Features(g_feats, "g_feats", query.device)
    matches = Matches((query.count, gallery.count), q_pids, g_pids, q_camids, g_camids)
    source = PairwiseDistances(query, gallery)
    near, right, known, counted = (np.zeros(query.count, kind) for kind in (np.float32, bool, bool, bool))
    step = source.block_rows()
    for start in range(0, query.count, step):
        stop = min(start + step, query.count)
        block = source.rows(start, stop)
        rows, columns, junk = matches.pairs(start, stop)
        block[rows[junk], columns[junk]] = torch.inf
        values, nearest = block.min(dim=1)
        near[start:stop] = source.reported(values).cpu().numpy()
        left = np.bincount(rows[~junk], minlength=stop - start) > 0
        known[start:stop], counted[start:stop] = left, left | (np.bincount(rows, minlength=stop - start) == 0)
        same = np.zeros((stop - start, gallery.count), bool)
        same[rows, columns] = True
        right[start:stop] = same[np.arange(stop - start), nearest.cpu().numpy()]
    unknown = counted & ~known
    if not known.any() or not unknown.any():
        raise EvaluationError(
            f"{known.sum()} queries are of somebody in the gallery and {unknown.sum()} of nobody; an open set has both"
        )
    return OpenSet(near[known], right[known], near[unknown], int((~counted).sum()))

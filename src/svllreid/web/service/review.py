"""Which pairs of crops a person should look at: near ones of two identities, and far ones of the same."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from svllreid.evaluation.ranking.distance import distances
from svllreid.gallery.crop import Crop
from svllreid.web.service.crops import Crops

_MOST_CROPS = 20_000  # crops that are looked at
_MOST_PAIRS = 500  # questions of either kind that are made at once
_NEAREST = 3  # other identities that an identity is compared with
_BLOCK = 512  # rows of distances at once


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the review.

    Args:
        id: made of the two crops and the kind of question.
        part: whether the crops have one identity, which may have to be parted; else two, which may be the same.
        left, right: the ids of the two crops; of one identity, `left` is the one that may not belong to it.
        distance: between them.
    """

    id: str
    part: bool
    left: str
    right: str
    distance: float


class Review:
    """Makes the questions, the most doubtful ones first, and knows which are left.

    Args:
        crops: the crops of the gallery.
        scan: gives all crops with their vectors (n, D), some at a time.
        answered: gives the ids of the pairs that were answered.
        likely: whether a distance is one that a person should look at: of two identities, not far too large; of one,
            not far too small. Called with the distance and whether the crops have one identity.
    """

    def __init__(
        self,
        crops: Crops,
        scan: Callable[[], Iterable[tuple[list[Crop], np.ndarray]]],
        answered: Callable[[], Iterable[str]],
        likely: Callable[[float, bool], bool] = lambda distance, part: True,
    ) -> None:
        self.crops, self.scan, self.answered, self.likely = crops, scan, answered, likely
        self.lock = threading.Lock()
        self.asked: dict[str, Asked] = {}
        self.made_at = -1  # the version of the crops for which there are questions

    def open(self) -> list[Asked]:
        """The questions that wait, the next one first. New ones are made when none are left and crops have changed."""
        with self.lock:
            left = self._left()
            if not left and self.made_at != self.crops.version:
                version = self.crops.version
                self.asked |= {pair.id: pair for pair in self._questions()}
                self.made_at = version
                left = self._left()
            return left

    def pair(self, pair_id: str) -> Asked | None:
        """A question by its id; None where it was never asked here."""
        return self.asked.get(pair_id)

    def _left(self) -> list[Asked]:
        answered = set(self.answered())
        return [pair for pair in self.asked.values() if pair.id not in answered and self._holds(pair)]

    def _holds(self, pair: Asked) -> bool:
        """Whether the crops are there, and have one identity or two as the question says."""
        left, right = self.crops.get(pair.left), self.crops.get(pair.right)
        if left is None or right is None:
            return False
        return (left.pid is not None and left.pid == right.pid) == pair.part

    def _questions(self) -> Iterator[Asked]:
        crops, vectors = self._sample()
        if len(crops) < 2:
            return
        groups: dict[str, list[int]] = {}
        for row, crop in enumerate(crops):
            groups.setdefault(crop.id if crop.pid is None else f"pid {crop.pid}", []).append(row)
        rows = list(groups.values())
        means = np.stack([vectors[members].mean(0) for members in rows])
        join, part = self._joins(crops, vectors, rows, means), self._parts(crops, vectors, rows, means)
        yield from (pair for pair in chain.from_iterable(zip_longest(join, part)) if pair is not None)

    def _sample(self) -> tuple[list[Crop], np.ndarray]:
        """All crops with their vectors, of a large gallery the first ones by id, which is a random order."""
        crops, vectors = list[Crop](), list[np.ndarray]()
        for some, their in self.scan():
            crops += some
            vectors.append(their)
            if len(crops) > 2 * _MOST_CROPS:  # so that the features of a large gallery are not all in memory
                crops, vectors = _first_by_id(crops, vectors)
        crops, vectors = _first_by_id(crops, vectors)
        return crops, vectors[0] if crops else np.empty((0, 0), np.float32)

    def _joins(self, crops: list[Crop], vectors: np.ndarray, rows: list[list[int]], means: np.ndarray) -> list[Asked]:
        """The nearest crops of identities whose means are near, the nearest first."""
        near: dict[tuple[int, int], float] = {}
        others_each = min(_NEAREST, len(means) - 1)
        for start in range(0, len(means), _BLOCK):
            block = np.array(distances(means[start : start + _BLOCK], means))
            block[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
            nearest = np.argpartition(block, others_each - 1, axis=1)[:, :others_each]
            for one, others in enumerate(nearest, start):
                near |= {(min(one, int(j)), max(one, int(j))): float(block[one - start, j]) for j in others}
        pairs = []
        for one, other in sorted(near, key=near.__getitem__)[: 4 * _MOST_PAIRS]:
            between = np.asarray(distances(vectors[rows[one]], vectors[rows[other]]))
            i, j = np.unravel_index(int(between.argmin()), between.shape)
            pairs.append((float(between.min()), crops[rows[one][int(i)]].id, crops[rows[other][int(j)]].id))
        chosen = [pair for pair in sorted(pairs) if self.likely(pair[0], False)]
        return [_asked(False, left, right, distance) for distance, left, right in chosen[:_MOST_PAIRS]]

    def _parts(self, crops: list[Crop], vectors: np.ndarray, rows: list[list[int]], means: np.ndarray) -> list[Asked]:
        """Of each identity the crop that is farthest from the mean, with the one farthest from that; far ones first."""
        pairs = []
        for members, mean in zip(rows, means, strict=True):
            own = vectors[members]
            far = int(np.linalg.norm(own - mean, axis=1).argmax())
            apart = np.linalg.norm(own - own[far], axis=1)
            other = int(apart.argmax())
            if other != far:  # else all are equal, or there is one alone
                pairs.append((float(apart[other]), crops[members[far]].id, crops[members[other]].id))
        chosen = [pair for pair in sorted(pairs, reverse=True) if self.likely(pair[0], True)]
        return [_asked(True, left, right, distance) for distance, left, right in chosen[:_MOST_PAIRS]]


def _first_by_id(crops: list[Crop], vectors: list[np.ndarray]) -> tuple[list[Crop], list[np.ndarray]]:
    """The first _MOST_CROPS crops by id, with their vectors in one array; nothing where there are none."""
    if not crops:
        return [], []
    order = sorted(range(len(crops)), key=lambda row: crops[row].id)[:_MOST_CROPS]
    return [crops[row] for row in order], [np.concatenate(vectors)[order]]


def _asked(part: bool, left: str, right: str, distance: float) -> Asked:
    kind = "part" if part else "join"
    pair_id = hashlib.sha256(f"{kind} {' '.join(sorted((left, right)))}".encode()).hexdigest()[:32]
    return Asked(pair_id, part, left, right, distance)

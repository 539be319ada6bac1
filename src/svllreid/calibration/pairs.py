"""All pairs of labelled images, counted by pair of cameras in blocks: the N x N distances are never in memory at once.

Each unordered pair of two images counts once, and no image is paired with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from svllreid.calibration.record import ALL, CROSS_CAMERA, SAME_CAMERA, PairKind
from svllreid.evaluation.ranking.distance import PairwiseDistances
from svllreid.evaluation.ranking.matches import Matches
from svllreid.evaluation.ranking.matrix import Features
from svllreid.evaluation.verification import Verification, between_sorted, verification_of
from svllreid.types import UNKNOWN

_PIECE_NUMBERS = 1 << 20

Cameras = tuple[int, int]


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of labelled images.

    Args:
        features: (N, D) floats.
        pids: (N,) identities as numbers from 0 on.
        camids: (N,) cameras; UNKNOWN (-1) where they are not known.
    """

    features: np.ndarray
    pids: np.ndarray
    camids: np.ndarray

    @property
    def cameras(self) -> tuple[int, ...]:
        """The known cameras."""
        return tuple(int(camera) for camera in np.unique(self.camids) if camera != UNKNOWN)


@dataclass(frozen=True)
class PairCounts:
    """Pairs of one kind, or of two cameras.

    Args:
        verification: their rates at every distance of a genuine pair; None where there are not both kinds of pairs.
        genuine, impostor: numbers of pairs.
    """

    verification: Verification | None
    genuine: int
    impostor: int


@dataclass
class _Tally:
    """The counts of a kind of pairs, or of a pair of cameras, while blocks are read."""

    distances: list[np.ndarray] = field(default_factory=list)
    pairs: int = 0
    edges: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    below: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    up_to: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))

    def close_genuine(self) -> None:
        """Sort the genuine pairs' distances, between which impostors will be counted."""
        if self.distances:
            self.edges, self.counts = np.unique(np.concatenate(self.distances), return_counts=True)
        self.below, self.up_to = np.zeros((2, len(self.edges) + 1), np.int64)
        self.distances = []

    def add_impostors(self, values: np.ndarray) -> None:
        """Count distances (n, m), infinite where there is no impostor pair; they are sorted in place."""
        if len(self.edges):
            below, up_to = between_sorted(values, self.edges)
            self.below += below
            self.up_to += up_to

    def result(self) -> PairCounts:
        """The rates, after all blocks."""
        genuine = int(self.counts.sum())
        impostor = self.pairs - genuine
        if not genuine or not impostor:
            return PairCounts(None, genuine, impostor)
        found = verification_of(self.edges, self.counts, self.below, self.up_to, impostor)
        return PairCounts(found, genuine, impostor)


def kinds_of(cameras: Cameras) -> tuple[PairKind, ...]:
    """The kinds of pairs that the pairs of two cameras belong to."""
    if UNKNOWN in cameras:
        return (ALL,)
    return ALL, SAME_CAMERA if cameras[0] == cameras[1] else CROSS_CAMERA


def count_pairs(
    labelled: LabelledFeatures, count: Callable[[int], None] = lambda pairs: None
) -> tuple[dict[PairKind, PairCounts], dict[Cameras, PairCounts]]:
    """Count all pairs, by kind and by pair of known cameras.

    All genuine distances are kept, of impostors only their number between two of these, so every rate is exact.

    Args:
        labelled: the images.
        count: called with the number of pairs done since its last call; each pair is done twice.
    Raises: EvaluationError: features that cannot be compared.
    """
    blocks = CameraBlocks(labelled)
    by_cameras = {cameras: _Tally() for cameras in blocks.pairs}
    by_kind: dict[PairKind, _Tally] = {}
    for cameras, tally in by_cameras.items():
        for _, _, block, rows, columns in blocks.read(cameras):
            chosen = block[rows, columns]
            for one in (tally, *(by_kind.setdefault(kind, _Tally()) for kind in kinds_of(cameras))):
                one.distances.append(chosen)
        number = blocks.number(cameras)
        for one in (tally, *(by_kind.setdefault(kind, _Tally()) for kind in kinds_of(cameras))):
            one.pairs += number
        count(number)
    for one in (*by_cameras.values(), *by_kind.values()):
        one.close_genuine()
    for cameras, tally in by_cameras.items():
        for _, _, block, rows, columns in blocks.read(cameras):
            block[rows, columns] = np.inf
            for one in (tally, *(by_kind[kind] for kind in kinds_of(cameras))):
                one.add_impostors(block)
        count(blocks.number(cameras))
    known = {cameras: tally.result() for cameras, tally in by_cameras.items() if UNKNOWN not in cameras}
    return {kind: tally.result() for kind, tally in by_kind.items()}, known


class CameraBlocks:
    """Blocks of Euclidean distances of the images of one camera to those of another, or of the same one.

    Args:
        labelled: the images.
    Attributes:
        pairs: the pairs of cameras, -1 for unknown among them, the smaller first.
    """

    def __init__(self, labelled: LabelledFeatures) -> None:
        self.labelled = labelled
        self.rows = {int(c): np.flatnonzero(labelled.camids == c) for c in np.unique(labelled.camids)}
        cameras = sorted(self.rows)
        self.pairs = [(a, b) for place, a in enumerate(cameras) for b in cameras[place:]]

    def number(self, cameras: Cameras) -> int:
        """The number of pairs of images of two cameras."""
        one, other = (len(self.rows[camera]) for camera in cameras)
        return one * (one - 1) // 2 if cameras[0] == cameras[1] else one * other

    def read(self, cameras: Cameras) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """The blocks of two cameras.

        Yields: the images of the rows (n,) and of the columns (m,), counted in the whole set; the distances (n, m)
            float32, which the caller may change, infinite where a pair was counted elsewhere or is one image; and rows
            and columns of the genuine pairs in them.
        """
        first, second = (self.rows[camera] for camera in cameras)
        within = cameras[0] == cameras[1]
        features = self.labelled.features
        query = Features(features[first], "features")
        source = PairwiseDistances(query, query if within else Features(features[second], "features"))
        pids = self.labelled.pids
        matches = Matches(source.shape, pids[first], pids[second], None, None)
        step = max(1, _PIECE_NUMBERS // len(second))
        for start in range(0, len(first), source.block_rows()):
            whole = source.reported(source.rows(start, min(start + source.block_rows(), len(first))))
            for top in range(0, len(whole), step):
                block = whole[top : top + step].numpy()
                begin = start + top
                rows, columns, _ = matches.pairs(begin, begin + len(block))
                if within:
                    block[np.arange(len(second)) <= begin + np.arange(len(block))[:, None]] = np.inf
                    later = columns > rows + begin
                    rows, columns = rows[later], columns[later]
                yield first[begin : begin + len(block)], second, block, rows, columns


def draw_pairs(
    labelled: LabelledFeatures, kind: PairKind, *, genuine: bool, most: int, generator: np.random.Generator
) -> np.ndarray:
    """Pairs (P, 2) of images, drawn without repetition where there are more than `most`.

    Args:
        labelled: the images.
        kind: see `kinds_of`.
        genuine: whether of genuine pairs, or of impostors.
        most: the largest P.
        generator: of the draw.
    """
    order = np.argsort(labelled.pids, kind="stable")
    pids, count = labelled.pids[order], len(order)
    ends = np.searchsorted(pids, pids, side="right") if genuine else np.full(count, count)
    starts = np.arange(1, count + 1) if genuine else np.searchsorted(pids, pids, side="right")
    numbers = np.cumsum(ends - starts)  # pairs of an image with later ones of its identity, or of others
    total = int(numbers[-1])
    # Some of those drawn are of another kind, so more are drawn than needed where there are as many.
    drawn = np.arange(total)
    if total > 8 * most:
        drawn = np.unique(generator.integers(0, total, 8 * most))
    first = np.searchsorted(numbers, drawn, side="right")
    second = starts[first] + drawn - (numbers[first] - (ends - starts)[first])
    pairs = np.stack([order[first], order[second]], axis=1)
    pairs = pairs[_of_kind(labelled.camids, pairs, kind)]
    if len(pairs) > most:
        pairs = pairs[np.sort(generator.choice(len(pairs), most, replace=False))]
    return pairs


def _of_kind(camids: np.ndarray, pairs: np.ndarray, kind: PairKind) -> np.ndarray:
    one, other = camids[pairs[:, 0]], camids[pairs[:, 1]]
    known = (one != UNKNOWN) & (other != UNKNOWN)
    return {ALL: np.ones(len(pairs), bool), CROSS_CAMERA: known & (one != other), SAME_CAMERA: known & (one == other)}[
        kind
    ]


def distances_of(features: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The Euclidean distances (P,) float64 of pairs (P, 2) of rows, some at a time."""
    step = max(1, _PIECE_NUMBERS // features.shape[1])
    parts = [
        np.linalg.norm(features[part[:, 0]].astype(np.float64) - features[part[:, 1]], axis=1)
        for part in (pairs[start : start + step] for start in range(0, len(pairs), step))
    ]
    return np.concatenate(parts) if parts else np.empty(0)

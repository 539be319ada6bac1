"""`svllreid.Calibration`: what a distance means for one model, as measured on labelled images."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from svllreid.calibration.record import ALL, FORMAT, VERSION, CalibrationRecord, PairGroup, RatePoint
from svllreid.embedding.contract import EmbeddingSpec, check_same
from svllreid.errors import EvaluationError
from svllreid.files import is_file, user_path, write_json

USUAL_RATE = 1e-3
_LARGEST_FILE = 64 << 20


@dataclass(frozen=True)
class FalseAcceptRate:
    """The share of impostor pairs that are at most so far apart.

    Args:
        rate: the share. Between two distances at which impostors were counted it is that of the larger one, so it is
            not too small; further apart than every genuine pair none were counted, and it is 1.
        low, high: its 95 % interval, pairs counted as independent.
    """

    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """Whether two images show the same identity, and what the answer stands on.

    Args:
        same: whether the distance is at most the threshold.
        threshold: the threshold on the distance.
        false_accept_rate: the share of impostor pairs that the threshold accepts at most.
    """

    same: bool
    threshold: float
    false_accept_rate: float


class Calibration:
    """What distances of one model's features mean: thresholds, false-accept rates, probabilities.

    `svllreid calibrate` measures them on labelled images and writes the file that `load` reads. They hold for features
    of that model and settings alone, and for pairs like those of the labelled images.

    Most methods have an argument `pairs`, which chooses what was measured: `cross-camera` for pairs of two cameras,
    `same-camera` for pairs within one, or `all` for both together.

    Args:
        record: the content of the file.
        origin: what error messages call it.
    Raises: EvaluationError: the record of the model in it is damaged.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> from svllreid.calibration.fit import calibrate
        >>> settings = {"image_size": (256, 128), "pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3, "neck": "before"}
        >>> settings |= {"flip": False, "sie_camera": False, "sie_view": False, "sie_coe": 0.0, "sie_table": ""}
        >>> spec = svllreid.EmbeddingSpec("0f3a", dim=1, normalized=True, precision="32", **settings)
        >>> people, pids = np.repeat(np.arange(50.0), 2)[:, None], np.repeat(np.arange(50), 2)
        >>> people[1::2] += 0.25  # two images of a person are 0.25 apart, those of two people 0.75 or more
        >>> calibrate(people, pids, spec=spec, dataset="drawn").save("people.json")
        >>> calibration = svllreid.Calibration.load("people.json")
        >>> calibration.threshold(1e-2)
        0.25
        >>> calibration.decide(0.2, 1e-2)
        Decision(same=True, threshold=0.25, false_accept_rate=0.01)
        >>> calibration.probability([0.25, 20.0]).round(2).tolist()
        [0.94, 0.0]
    """

    def __init__(self, record: CalibrationRecord, origin: str = "the calibration") -> None:
        self.record, self.origin = record, origin
        self._spec = EmbeddingSpec.from_dict(record.embedding, f"{origin}: embedding")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """The calibration in a file that `svllreid calibrate` or `save` wrote.

        Raises: EvaluationError: there is no such file, or it is damaged, of another version or something else.
        """
        path = user_path(path)
        again = "give a file that `svllreid calibrate` wrote"
        if not is_file(path):
            raise EvaluationError(f"{path} does not exist; {again}")
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise EvaluationError(f"{path} is larger than any calibration; {again}")
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise EvaluationError(f"{path} is no readable calibration ({error}); {again}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise EvaluationError(f"{path} is no calibration; {again}")
        if content.get("version") != VERSION:
            raise EvaluationError(
                f"{path} is a calibration of version {content.get('version')!r}, and this svllreid reads {VERSION}; "
                "calibrate again with it"
            )
        try:
            record = CalibrationRecord.model_validate_json(json.dumps(content))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise EvaluationError(
                f"{path} is a damaged calibration ({where + ': ' if where else ''}{fault['msg']}); calibrate again"
            ) from None
        return cls(record, str(path))

    def save(self, path: str | Path) -> None:
        """Write the file, JSON, atomically.

        Raises: OutputError: it cannot be written.
        """
        write_json(user_path(path), self.record.model_dump(mode="json"))

    @property
    def spec(self) -> EmbeddingSpec:
        """The record of the model and settings whose distances were measured."""
        return self._spec

    def check(self, spec: EmbeddingSpec | None) -> None:
        """Check that features are of the model and settings that were calibrated.

        Args:
            spec: the record of the features.
        Raises: EvaluationError: they are of others, or it is unknown which they are of.
        """
        if spec is None:
            raise EvaluationError(
                f"it is unknown which model the features are of, and {self.origin} holds for one model alone; embed "
                "the images again"
            )
        check_same(self.spec, spec, (self.origin, "the images"))

    def supported_rates(self, pairs: str = ALL) -> tuple[float, ...]:
        """The false-accept rates for which there is a threshold, largest first."""
        return tuple(point.rate for point in self.group(pairs).points if point.threshold is not None)

    def usual_rate(self, pairs: str = ALL) -> float:
        """The false-accept rate of decisions that name none: 1e-3, or the smallest larger one that is supported.

        Raises: EvaluationError: none is supported.
        """
        rates = self.supported_rates(pairs)
        if not rates:
            points, impostor = self.group(pairs).points, self.group(pairs).impostor
            raise EvaluationError(
                f"{self.origin} states no false-accept rate for {pairs} pairs; {why_unstated(points[0], impostor)}"
                "; calibrate with images of more identities"
            )
        return min((rate for rate in rates if rate >= USUAL_RATE), default=max(rates))

    def point(self, false_accept_rate: float, pairs: str = ALL) -> RatePoint:
        """The threshold for a false-accept rate, with what was measured there.

        Args:
            false_accept_rate: one of `supported_rates`.
            pairs: `all`, `cross-camera` or `same-camera`.
        Raises: EvaluationError: a rate that the labelled images do not support; the message names those that they do.
        """
        group, supported = self.group(pairs), self.supported_rates(pairs)
        same = [point for point in group.points if math.isclose(point.rate, false_accept_rate, rel_tol=1e-9)]
        if same and same[0].threshold is not None:
            return same[0]
        why = why_unstated(same[0], group.impostor) if same else "it was not among those calculated"
        named = ", ".join(f"{rate:g}" for rate in supported) or "none"
        raise EvaluationError(
            f"{self.origin} states no threshold for the false-accept rate {false_accept_rate:g} of {pairs} pairs "
            f"({why}); supported: {named}"
        )

    def threshold(self, false_accept_rate: float = USUAL_RATE, pairs: str = ALL) -> float:
        """The largest distance at which two images count as one identity.

        Args and Raises: see `point`.
        """
        threshold = self.point(false_accept_rate, pairs).threshold
        return math.nan if threshold is None else threshold

    def probability(self, distances: Any, prior: float = 0.5, pairs: str = ALL) -> np.ndarray:
        """The probability that pairs of images at these distances show one identity.

        It was fitted with genuine and impostor pairs weighing the same, which is a prior of 0.5. In a large gallery
        nearly all pairs are impostors, so the prior there is far smaller: about 1 / n if one of n images is right.

        Args:
            distances: Euclidean, as `svllreid.distances` gives them, of any shape.
            prior: the share of pairs that show one identity, before their distance is known; above 0 and below 1.
            pairs: `all`, `cross-camera` or `same-camera`.
        Returns: an array of the same shape, float64.
        Raises: EvaluationError: distances that are no numbers or below 0, or a prior outside of 0 to 1.
        """
        values = _distances(distances)
        if not isinstance(prior, Real) or not 0 < prior < 1:
            raise EvaluationError(f"the prior is {prior!r}; use a number above 0 and below 1")
        log_odds = self.group(pairs).probability.log_odds(values) + math.log(prior) - math.log1p(-prior)
        return 0.5 * (1 + np.tanh(log_odds / 2))  # the logistic function, without overflow

    def false_accept_rate(self, distance: float, pairs: str = ALL) -> FalseAcceptRate:
        """The share of impostor pairs at most so far apart, with its interval.

        Args:
            distance: a Euclidean distance.
            pairs: `all`, `cross-camera` or `same-camera`.
        Raises: EvaluationError: no number, below 0, or several distances.
        """
        value, group = _distance(distance), self.group(pairs)
        curve = group.curve
        place = int(np.searchsorted(curve.distances, value, side="left"))
        if place == len(curve.distances):
            return FalseAcceptRate(1.0, curve.low[-1], 1.0)
        return FalseAcceptRate(curve.false_accepts[place] / group.impostor, curve.low[place], curve.high[place])

    def decide(self, distance: float, false_accept_rate: float | None = None, pairs: str = ALL) -> Decision:
        """Whether two images so far apart show the same identity.

        Args:
            distance: their Euclidean distance.
            false_accept_rate: the allowed one, see `point`; None takes `usual_rate`.
            pairs: `all`, `cross-camera` or `same-camera`.
        Raises: EvaluationError: see `point`; no number, below 0, or several distances.
        """
        rate = self.usual_rate(pairs) if false_accept_rate is None else false_accept_rate
        threshold = self.threshold(rate, pairs)
        return Decision(_distance(distance) <= threshold, threshold, rate)

    def group(self, pairs: str = ALL) -> PairGroup:
        """What was measured of `all`, `cross-camera` or `same-camera` pairs.

        Raises: EvaluationError: nothing was measured of such pairs.
        """
        found = self.record.pairs.get(pairs)  # type: ignore[call-overload]  # any text may be asked for
        if found is None:
            raise EvaluationError(f"{self.origin} has no {pairs!r} pairs; it has {', '.join(self.record.pairs)}")
        return found


def why_unstated(point: RatePoint, impostor: int) -> str:
    """Why a point has no threshold, as messages and tables say it.

    Args:
        point: the point.
        impostor: the number of impostor pairs that were there.
    """
    if impostor < point.needed:
        return f"not supported: needs {point.needed:,} impostor pairs, {impostor:,} are there"
    return "not reached: no genuine pair is so near"


def _distances(values: Any) -> np.ndarray:
    """Distances as an array of float64. EvaluationError where they are none."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(f"distances are {type(values).__name__}; give numbers") from None
    if not (array >= 0).all():
        raise EvaluationError("distances hold NaN or numbers below 0; give Euclidean distances")
    return array


def _distance(value: Any) -> float:
    """One distance, also in an array of one number. EvaluationError where it is none."""
    array = _distances(value)
    if array.size != 1:
        raise EvaluationError(f"{array.size} distances are given, and one is asked for; call it for each")
    return float(array.item())

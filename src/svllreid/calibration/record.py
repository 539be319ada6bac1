"""The content of a calibration file, field by field, checked where it is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT, VERSION = "svllreid calibration", 1
PairKind = Literal["all", "cross-camera", "same-camera"]
ALL: PairKind = "all"
CROSS_CAMERA: PairKind = "cross-camera"
SAME_CAMERA: PairKind = "same-camera"
PAIRS = (ALL, CROSS_CAMERA, SAME_CAMERA)
"""Which pairs a threshold is for: all, those of two cameras, or those within one camera."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Distance = Annotated[float, Field(ge=0)]
Interval = tuple[Share, Share]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class RatePoint(_Record):
    """A false-accept rate, and the threshold on the distance that keeps it, if the pairs support one.

    Args:
        rate: the largest allowed share of accepted impostor pairs.
        needed: the number of impostor pairs that the rate needs.
        threshold: pairs at most this far apart are accepted. None where there are fewer impostor pairs than needed, or
            where no genuine pair is so near that the rate is kept.
        false_accepts: the number of impostor pairs accepted at the threshold.
        interval: 95 % interval of the false-accept rate at the threshold, pairs counted as independent.
        identity_interval: the same where identities, not pairs, are counted as independent; it is the wider one.
        true_accept_rate: share of the genuine pairs accepted at the threshold.
    """

    rate: Share
    needed: Count
    threshold: Distance | None = None
    false_accepts: Count | None = None
    interval: Interval | None = None
    identity_interval: Interval | None = None
    true_accept_rate: Share | None = None

    @model_validator(mode="after")
    def _measured(self) -> RatePoint:
        measured = (self.false_accepts, self.interval, self.true_accept_rate)
        if self.threshold is not None and None in measured:
            raise ValueError("a threshold lacks what was measured at it")
        return self


class Curve(_Record):
    """False accepts by distance: how many impostor pairs are at most so far apart, with 95 % intervals of their share.

    Args:
        distances: ascending; at most some hundred of the genuine pairs' distances, among them all thresholds.
        false_accepts: numbers of impostor pairs at most so far apart.
        low, high: the ends of the intervals.
    """

    distances: Annotated[tuple[Distance, ...], Field(min_length=1)]
    false_accepts: tuple[Count, ...]
    low: tuple[Share, ...]
    high: tuple[Share, ...]

    @model_validator(mode="after")
    def _ascending(self) -> Curve:
        columns = (self.distances, self.false_accepts, self.low, self.high)
        if len({len(column) for column in columns}) > 1:
            raise ValueError("its columns have different lengths")
        if (np.diff(self.distances) <= 0).any() or (np.diff(self.false_accepts) < 0).any():
            raise ValueError("distances or false accepts do not ascend")
        return self


class Logistic(_Record):
    """The probability of one identity at distance d and prior 0.5 is 1 / (1 + exp(−(slope d + intercept)))."""

    method: Literal["logistic"] = "logistic"
    slope: Annotated[float, Field(le=0)]
    intercept: float

    def log_odds(self, distances: np.ndarray) -> np.ndarray:
        """The logarithm of probability / (1 − probability) at each distance."""
        return self.slope * distances + self.intercept


class Isotonic(_Record):
    """The probability of one identity at prior 0.5, straight between the knots and constant outside of them.

    Args:
        distances: of the knots, ascending.
        probabilities: at the knots, not ascending; neither 0 nor 1.
    """

    method: Literal["isotonic"] = "isotonic"
    distances: Annotated[tuple[Distance, ...], Field(min_length=1)]
    probabilities: tuple[Annotated[float, Field(gt=0, lt=1)], ...]

    @model_validator(mode="after")
    def _falling(self) -> Isotonic:
        if len(self.distances) != len(self.probabilities):
            raise ValueError("there are not as many probabilities as distances")
        if (np.diff(self.distances) <= 0).any() or (np.diff(self.probabilities) > 0).any():
            raise ValueError("the distances of its knots do not ascend, or their probabilities do")
        return self

    def log_odds(self, distances: np.ndarray) -> np.ndarray:
        """The logarithm of probability / (1 − probability) at each distance."""
        probabilities = np.interp(distances, self.distances, self.probabilities)
        return np.log(probabilities) - np.log1p(-probabilities)


class Reliability(_Record):
    """How well probabilities of pairs of held-out identities agree with what the pairs are; both kinds weigh the same.

    Args:
        genuine, impostor: numbers of held-out pairs.
        brier: mean squared difference of the probability and what the pair is (1 genuine, 0 impostor); 0 is best, and
            0.25 is reached by always saying 0.5.
        calibration_error: expected calibration error over the bins: mean difference of probability and share.
        weights: the share of the pairs, by weight, in each bin of probability; the bins are equally wide.
        probabilities: the mean probability in each bin; None in empty bins.
        shares: the share of genuine pairs, by weight, in each bin; None in empty bins.
    """

    genuine: Count
    impostor: Count
    brier: Share
    calibration_error: Share
    weights: tuple[Share, ...]
    probabilities: tuple[Share | None, ...]
    shares: tuple[Share | None, ...]


class PairGroup(_Record):
    """What was measured of the pairs of one kind.

    Args:
        genuine, impostor: numbers of pairs of one identity and of two.
        equal_error_rate, auc: see `svllreid.Verification`.
        points: a point for each false-accept rate, supported or not.
        curve: false accepts by distance.
        probability: the model of the probability.
        fitted_genuine, fitted_impostor: numbers of pairs, drawn where there are more, to which it was fitted.
        reliability: of pairs of held-out identities; None where there are too few identities.
    """

    genuine: Annotated[int, Field(ge=1)]
    impostor: Annotated[int, Field(ge=1)]
    equal_error_rate: Share
    auc: Share
    points: Annotated[tuple[RatePoint, ...], Field(min_length=1)]
    curve: Curve
    probability: Annotated[Logistic | Isotonic, Field(discriminator="method")]
    fitted_genuine: Count
    fitted_impostor: Count
    reliability: Reliability | None = None

    @model_validator(mode="after")
    def _within_all(self) -> PairGroup:
        accepted = (*self.curve.false_accepts, *(point.false_accepts or 0 for point in self.points))
        if max(accepted) > self.impostor:
            raise ValueError("more false accepts than impostor pairs")
        return self


class CameraPair(_Record):
    """What was measured of the pairs of two cameras, or of one camera where both are equal.

    Args:
        cameras: the two camids, the smaller first.
        genuine, impostor: numbers of pairs.
        equal_error_rate: see `svllreid.Verification`; None where there are not both kinds of pairs.
        point: at the largest of the calibration's false-accept rates; None where there are not both kinds of pairs.
        reliability: of the probabilities for all pairs, by pairs of held-out identities; None where there are too few.
    """

    cameras: tuple[int, int]
    genuine: Count
    impostor: Count
    equal_error_rate: Share | None = None
    point: RatePoint | None = None
    reliability: Reliability | None = None


class CalibrationRecord(_Record):
    """The whole file.

    Args:
        format, version: what the file is.
        dataset: the name of the labelled images.
        embedding: `EmbeddingSpec.to_dict()` of their features.
        images: how many images, or means of several, have been compared; `left_out`: how many had no identity.
        identities: number of identities.
        cameras: the camids; empty where they are unknown.
        seed: of the draws.
        mean_of: a feature is the mean of so many images of one identity and camera; 1: that of an image.
        pairs: what was measured, by kind of pairs; `all` is always there.
        camera_pairs: the same by pair of cameras.
    """

    format: Literal["svllreid calibration"] = "svllreid calibration"
    version: Literal[1] = 1
    dataset: str
    embedding: dict[str, Any]
    images: Count
    left_out: Count
    identities: Count
    cameras: tuple[int, ...]
    seed: int
    mean_of: Annotated[int, Field(ge=1)] = 1
    pairs: dict[PairKind, PairGroup]
    camera_pairs: tuple[CameraPair, ...] = ()

    @model_validator(mode="after")
    def _has_all(self) -> CalibrationRecord:
        if ALL not in self.pairs:
            raise ValueError("the pairs have no entry 'all'")
        return self

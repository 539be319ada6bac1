"""`svllreid verify`: whether two images, or two sides with several images each, show the same identity."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from svllreid.calibration.calibration import USUAL_RATE, Calibration
from svllreid.calibration.means import mean_feature
from svllreid.calibration.record import ALL, CROSS_CAMERA, SAME_CAMERA
from svllreid.data.readers.listed_images import list_images
from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.distance import distances
from svllreid.files import is_folder, user_path
from svllreid.jobs.encoding import fitting_encoder
from svllreid.runtime.progress import logging_to
from svllreid.types import UNKNOWN

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerifyOptions:
    """How two sides are compared.

    Args:
        device, precision: see `Encoder.load`.
        camids: the cameras of the two sides; None: unknown.
        cameras: they are numbered as in the training set, so that side information is added, if the model has any.
        false_accept_rate: of the decision; None takes `Calibration.usual_rate`.
        prior: the share of pairs that show one identity, before the images are seen.
    """

    device: str = "auto"
    precision: str | None = None
    camids: tuple[int, int] | None = None
    cameras: bool = False
    false_accept_rate: float | None = None
    prior: float = 0.5


@dataclass(frozen=True)
class Verdict:
    """The answer; what needs a calibration is None without one.

    Args:
        distance: Euclidean, between the mean features of the two sides.
        images: numbers of images on each side.
        pairs: which pairs of the calibration it stands on: `all`, `cross-camera` or `same-camera`.
        probability: that both sides show one identity, at `prior`.
        prior: as it was given.
        same: the decision.
        threshold: the largest distance that counts as the same.
        false_accept_rate: the rate that was asked for.
        measured_rate: the share of the calibration's impostor pairs that the threshold accepted.
        interval: the 95 % interval of that share, over identities where it is known, else over pairs.
    """

    distance: float
    images: tuple[int, int]
    pairs: str | None = None
    probability: float | None = None
    prior: float | None = None
    same: bool | None = None
    threshold: float | None = None
    false_accept_rate: float | None = None
    measured_rate: float | None = None
    interval: tuple[float, float] | None = None


def verify_images(
    first: Path,
    second: Path,
    weights: Path,
    calibration: Path | None = None,
    options: VerifyOptions = VerifyOptions(),
    console: Console | None = None,
) -> Verdict:
    """Compare two images, or two folders with images of one identity each.

    The features of a side are averaged, and the mean gets length 1 again if the model's features have length 1.

    Args:
        first, second: an image file, or a folder of which all images are one side.
        weights: the model, see `Encoder.load`.
        calibration: a file of `svllreid calibrate`; None: only the distance is found.
        options: of the command line.
        console: where notes are shown; None: standard error.
    Raises: ReidError: anything that the user can fix.
    """
    console = console or Console(stderr=True)
    with logging_to(None, console):
        known = None if calibration is None else Calibration.load(calibration)
        pairs = _pairs(options.camids)
        if known is not None:
            rate = _rate(known, options.false_accept_rate, pairs)
            known.probability(0.0, options.prior, pairs)  # checks the prior before any image is embedded
    # Outside of the log: what else the file of a model holds says nothing about the two images.
    encoder, notes = fitting_encoder(
        weights, None, options.device, cameras=options.cameras, precision=options.precision
    )
    with logging_to(None, console):
        if options.camids is not None:  # without cameras there is nothing to add
            for note in notes:
                logger.info("%s", note)
        if known is not None:
            known.check(encoder.spec)
        sides = [_images(user_path(side)) for side in (first, second)]
        camids = options.camids or (UNKNOWN, UNKNOWN)
        means = [
            mean_feature(encoder.encode(side, camid), normalized=encoder.spec.normalized)
            for side, camid in zip(sides, camids, strict=True)
        ]
        distance, counts = float(distances(*means)[0, 0]), (len(sides[0]), len(sides[1]))
        if known is None:
            return Verdict(distance, counts)
        if counts != (size := known.record.mean_of, size):
            logger.warning(
                "%d and %d images are compared, and the calibration is of %s: means of more images lie nearer "
                "together, also those of two people, so its false-accept rate is another one here",
                *counts,
                "single images" if size == 1 else f"means of {size} images",
            )
        point = known.point(rate, pairs)
        return Verdict(
            distance,
            counts,
            pairs,
            probability=float(known.probability(distance, options.prior, pairs)),
            prior=options.prior,
            same=known.decide(distance, rate, pairs).same,
            threshold=point.threshold,
            false_accept_rate=rate,
            measured_rate=known.false_accept_rate(known.threshold(rate, pairs), pairs).rate,
            interval=point.identity_interval or point.interval,
        )


def _images(side: Path) -> Sequence[Path]:
    """The image files of a side."""
    if not is_folder(side):
        return [side]
    images, notes = list_images(side)
    for note in notes:
        logger.info("%s", note)
    return [image.path for image in images]


def _pairs(camids: tuple[int, int] | None) -> str:
    """The kind of pairs that two cameras make."""
    if camids is None or UNKNOWN in camids:
        return ALL
    return SAME_CAMERA if camids[0] == camids[1] else CROSS_CAMERA


def _rate(calibration: Calibration, given: float | None, pairs: str) -> float:
    """The false-accept rate of the decision, checked before any image is embedded; another than 1e-3 is said."""
    if pairs not in calibration.record.pairs:
        raise EvaluationError(
            f"{calibration.origin} has no {pairs} pairs; leave the cameras out, so that all pairs count",
            ("cameras of the two",),
        )
    if given is not None:
        calibration.point(given, pairs)
        return given
    rate = calibration.usual_rate(pairs)
    if rate != USUAL_RATE:
        logger.info("the decision is for the false-accept rate %g, as the calibration does not support 0.001", rate)
    return rate

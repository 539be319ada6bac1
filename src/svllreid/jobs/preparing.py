"""What training and testing do first: options, data, and whether the two fit the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from svllreid import build
from svllreid.config import Config
from svllreid.data.dataset import readable
from svllreid.errors import DatasetError
from svllreid.training.report import LiveReport
from svllreid.types import UNKNOWN, Sample, Splits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says beside the configuration.

    Args:
        device: auto, cpu, cuda, cuda:1, mps.
        stage: 1 or 2 alone, None both.
        stage1_weights: a stage-1 file to start stage 2 from; None: the one in OUTPUT_DIR.
        fresh: start over in an OUTPUT_DIR that holds a run.
        allow_config_change: continue under another configuration.
        skip_unreadable: leave out images that cannot be read, counted.
    """

    device: str = "auto"
    stage: int | None = None
    stage1_weights: Path | None = None
    fresh: bool = False
    allow_config_change: bool = False
    skip_unreadable: bool = False


def load_splits(config: Config, options: Options, report: LiveReport) -> Splits:
    """The configuration's splits, their notes logged, and where asked without the images that cannot be read."""
    splits = build.build_splits(config)
    for note in splits.notes:
        logger.info("%s: %s", splits.name, note)
    if not options.skip_unreadable:
        return splits
    kept: dict[str, tuple[Sample, ...]] = {}
    for name in ("train", "query", "gallery"):
        samples = getattr(splits, name)
        with report.counting(f"checking {name}", len(samples)) as count:
            good, faults = readable(samples, count)
        if faults:
            logger.warning("%s: %d of %d images left out; first: %s", name, len(faults), len(samples), faults[0])
        kept[name] = tuple(good)
    return replace(splits, **kept)  # type: ignore[arg-type]


def without_needless_sie(config: Config, splits: Splits, trained_on: Sequence[str] | None = None) -> Config:
    """The configuration, side information off where nobody knows camera or view, or the dataset is another."""
    off: dict[str, bool] = {}
    foreign = trained_on is not None and not set(splits.name.split("+")) <= set(trained_on)
    everyone = [*splits.train, *splits.query, *splits.gallery]
    for key, attribute in (("sie_camera", "camid"), ("sie_view", "viewid")):
        if not getattr(config.model, key):
            continue
        if foreign:
            logger.info(
                "MODEL.%s is switched off: camera ids mean nothing outside %s", key.upper(), ", ".join(trained_on or ())
            )
            off[key] = False
        elif all(getattr(sample, attribute) == UNKNOWN for sample in everyone):
            logger.info(
                "MODEL.%s is switched off: %s does not say the %s of its images",
                key.upper(),
                splits.name,
                attribute[:-2],
            )
            off[key] = False
    if not off:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update=off)})


def check_cameras(config: Config, splits: Splits, num_cameras: int, num_views: int) -> None:
    """DatasetError where a test image has a camera or view beyond the trained table."""
    for used, attribute, count, key in (
        (config.model.sie_camera, "camid", num_cameras, "SIE_CAMERA"),
        (config.model.sie_view, "viewid", num_views, "SIE_VIEW"),
    ):
        for sample in (*splits.query, *splits.gallery) if used else ():
            if getattr(sample, attribute) >= count:
                raise DatasetError(
                    f"{sample.path}: {attribute} {getattr(sample, attribute)} (from zero) is beyond the {count} "
                    f"the model is trained with; set MODEL.{key} false, or train with that camera"
                )

"""What training and testing do first: options, data, and whether the two fit the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from svllreid import build
from svllreid.config import Config
from svllreid.data import readers
from svllreid.data.dataset import readable
from svllreid.errors import DatasetError, ImageError
from svllreid.training.report import LiveReport
from svllreid.types import UNKNOWN, Sample, Splits


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
        max_steps: a trial of so many steps of each stage, as one epoch.
        limit_identities: a trial on the first so many training identities.
        profile: leave a trace of a few steps of each stage.
    """

    device: str = "auto"
    stage: int | None = None
    stage1_weights: Path | None = None
    fresh: bool = False
    allow_config_change: bool = False
    skip_unreadable: bool = False
    max_steps: int | None = None
    limit_identities: int | None = None
    profile: bool = False


def trial(config: Config, options: Options) -> Config:
    """The configuration, of one epoch in each stage where --max-steps asks for a trial."""
    if options.max_steps is None:
        return config
    solver = config.solver
    stages = {name: getattr(solver, name).model_copy(update={"max_epochs": 1}) for name in ("stage1", "stage2")}
    return config.model_copy(update={"solver": solver.model_copy(update=stages)})


def load_splits(config: Config, options: Options, report: LiveReport) -> Splits:
    """The configuration's splits, for a trial with few training identities; see `without_unreadable`."""
    splits = build.build_splits(config)
    if options.limit_identities is not None:
        chosen = set(sorted({sample.pid for sample in splits.train})[: options.limit_identities])
        note = f"a trial on {len(chosen)} training identities (--limit-identities)"
        train = tuple(sample for sample in splits.train if sample.pid in chosen)
        splits = replace(splits, train=train, notes=(*splits.notes, note))
    return without_unreadable(splits, options, report)


def load_test_splits(config: Config, options: Options, report: LiveReport) -> dict[str, Splits]:
    """The splits to test on by name, each with something to test; see `without_unreadable`.

    Raises: DatasetError: an empty split.
    """
    named = build.build_test_splits(config)
    found = [without_unreadable(replace(splits, train=()), options, report) for splits in named]
    for splits in found:
        if not splits.testable:
            empty = "gallery" if splits.query else "query"
            raise DatasetError(f"{splits.name} has an empty {empty} split; nothing to test")
    return dict(zip(readers.distinct([splits.name for splits in found]), found, strict=True))


def without_unreadable(splits: Splits, options: Options, report: LiveReport) -> Splits:
    """The splits, where asked without the images that cannot be read; their notes say how many."""
    if not options.skip_unreadable:
        return splits
    kept: dict[str, tuple[Sample, ...]] = {}
    notes = list(splits.notes)
    for name in ("train", "query", "gallery"):
        samples = getattr(splits, name)
        good, faults = _decode(name, samples, report)
        if faults:
            notes.append(f"{name}: {len(faults)} of {len(samples)} images left out; first: {faults[0]}")
        kept[name] = tuple(good)
    there = set(kept["query"])
    parts = {name: tuple(sample for sample in part if sample in there) for name, part in splits.parts.items()}
    return replace(
        splits, train=kept["train"], query=kept["query"], gallery=kept["gallery"], notes=tuple(notes), parts=parts
    )


def check_readable(splits: Splits, report: LiveReport) -> None:
    """Decode the test images once, so that a broken one is met before training and not after hours of it.

    Raises: ImageError: images that cannot be read; the message counts them and says what is wrong with the first.
    """
    for name in ("query", "gallery"):
        samples = getattr(splits, name)
        _, faults = _decode(f"{splits.name} {name}", samples, report)
        if faults:
            raise ImageError(f"{len(faults)} of {len(samples)} {name} images of {splits.name}: {faults[0]}")


def _decode(name: str, samples: Sequence[Sample], report: LiveReport) -> tuple[list[Sample], list[str]]:
    """The samples whose images decode, and a line about each of the others."""
    with report.counting(f"checking {name}", len(samples)) as count:
        return readable(samples, count)


def without_unknown_sie(config: Config, splits: Splits) -> tuple[Config, list[str]]:
    """For training: the configuration, side information off where no image says its camera or view, and why."""
    off, notes = {}, []
    for key, attribute, what in (("sie_camera", "camid", "camera"), ("sie_view", "viewid", "viewpoint")):
        unknown = all(getattr(sample, attribute) == UNKNOWN for sample in splits.train)
        if getattr(config.model, key) and unknown:
            off[key] = False
            notes.append(f"MODEL.{key.upper()} is switched off: no image says its {what}")
    return _changed(config, off), notes


def without_foreign_sie(config: Config, splits: Splits, trained_on: str) -> tuple[Config, list[str]]:
    """For testing: the configuration, side information off on another dataset than the first trained on, and why.

    On the same one it stays as trained; an image without camera or view gets none.

    Args:
        trained_on: the origin of the first dataset trained on.
    """
    used = config.model.sie_camera or config.model.sie_view
    if not used or splits.origin == trained_on:
        return config, []
    note = f"MODEL.SIE_CAMERA and SIE_VIEW are switched off: camera ids mean nothing outside {trained_on}"
    return _changed(config, {"sie_camera": False, "sie_view": False}), [note]


def _changed(config: Config, model: dict[str, bool]) -> Config:
    return config.model_copy(update={"model": config.model.model_copy(update=model)})


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

"""The first steps of training and testing: options, data, and checks that both fit the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from svllreid import build
from svllreid.config import Config
from svllreid.data import readers
from svllreid.data.decodable import keep_decodable
from svllreid.data.readers.layout import first_three
from svllreid.errors import ConfigError, DatasetError, ImageError
from svllreid.jobs.pictures import with_pictures
from svllreid.runtime.progress import LiveReport
from svllreid.types import UNKNOWN, Origin, Sample, SideRows, Splits


@dataclass(frozen=True)
class Options:
    """The options of the command line, which are not part of the configuration.

    Args:
        device: auto, cpu, cuda, cuda:1, mps.
        stage: train only stage 1 or 2; None trains both.
        stage1_weights: a stage-1 file that stage 2 starts from; None takes the one in OUTPUT_DIR.
        fresh: start over in an OUTPUT_DIR that holds a run.
        allow_config_change: continue a run under another configuration.
        skip_unreadable: leave out images that cannot be read; a note counts them.
        max_steps: train one epoch of at most so many steps in each stage, as a trial.
        limit_identities: train only on the first so many identities, as a trial.
        profile: write a trace of a few steps of each stage.
        keep_sie: at test, keep side information on for whatever dataset is tested.
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
    keep_sie: bool = False


def trial(config: Config, options: Options) -> Config:
    """The configuration; where --max-steps asks for a trial, each stage has one epoch."""
    if options.max_steps is None:
        return config
    solver = config.solver
    stages = {name: getattr(solver, name).model_copy(update={"max_epochs": 1}) for name in ("stage1", "stage2")}
    return config.model_copy(update={"solver": solver.model_copy(update=stages)})


def load_splits(config: Config, options: Options, report: LiveReport) -> Splits:
    """Read the dataset of the configuration, as the options ask.

    Images that cannot be read are left out where asked (see `without_unreadable`), and for a trial all but a few
    training identities.

    Raises: DatasetError: the dataset cannot be read.
    """
    noun_notes = build.noun_notes(config)
    splits = build.build_splits(config)
    splits = replace(splits, notes=(*splits.notes, *noun_notes))
    if options.limit_identities is not None:
        chosen = set(sorted({sample.pid for sample in splits.train})[: options.limit_identities])
        note = f"a trial on {len(chosen)} training identities (--limit-identities)"
        train = tuple(sample for sample in splits.train if sample.pid in chosen)
        # The images of few identities may lack cameras that the test set has, so the rows of all are kept.
        splits = replace(splits, train=train, notes=(*splits.notes, note), side_rows=SideRows.of(splits.train))
    return with_pictures(without_unreadable(splits, options, report), report)


def load_test_splits(config: Config, options: Options, report: LiveReport) -> dict[str, Splits]:
    """Read the test sets of the configuration, as the options ask (see `without_unreadable`), and return them by name.

    Raises: DatasetError: a test set cannot be read or has an empty split.
    """
    test_sets = [
        with_pictures(without_unreadable(replace(splits, train=()), options, report), report)
        for splits in build.build_test_splits(config)
    ]
    for splits in test_sets:
        if not splits.testable:
            empty = "gallery" if splits.query else "query"
            raise DatasetError(f"{splits.name} has an empty {empty} split; nothing to test")
    return dict(zip(readers.distinct([splits.name for splits in test_sets]), test_sets, strict=True))


def without_unreadable(splits: Splits, options: Options, report: LiveReport) -> Splits:
    """The splits, and where --skip-unreadable asks for it without images that cannot be read; notes count these."""
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
    queries = set(kept["query"])
    parts = {name: tuple(sample for sample in part if sample in queries) for name, part in splits.parts.items()}
    return replace(
        splits, train=kept["train"], query=kept["query"], gallery=kept["gallery"], notes=tuple(notes), parts=parts
    )


def check_readable(splits: Splits, report: LiveReport) -> None:
    """Decode all test images, so that a damaged one stops a run before training and not after hours of it.

    Raises: ImageError: images cannot be read; the message counts them and says what is wrong with the first.
    """
    for name in ("query", "gallery"):
        samples = getattr(splits, name)
        _, faults = _decode(f"{splits.name} {name}", samples, report)
        if faults:
            raise ImageError(
                f"{len(faults)} of {len(samples)} {name} images of {splits.name}: {faults[0]}",
                settings=("unreadable images",),
            )


def _decode(name: str, samples: Sequence[Sample], report: LiveReport) -> tuple[list[Sample], list[str]]:
    """The samples whose images can be decoded, and a line about each of the others."""
    with report.counting(f"checking {name}", len(samples)) as count:
        return keep_decodable(samples, count)


def without_unknown_sie(config: Config, splits: Splits) -> tuple[Config, list[str]]:
    """The configuration for training, without side information that no image has, and a note for each key switched off.

    Args:
        config: as the user gave it.
        splits: the data; a camera or viewpoint counts as missing if it is unknown for every training image.
    """
    off, notes = {}, []
    for key, attribute, what in (("sie_camera", "camid", "camera"), ("sie_view", "viewid", "viewpoint")):
        unknown = all(getattr(sample, attribute) == UNKNOWN for sample in splits.train)
        if getattr(config.model, key) and unknown:
            off[key] = False
            notes.append(f"MODEL.{key.upper()} is switched off: no image has a known {what}")
    return _changed(config, off), notes


def without_foreign_sie(
    config: Config, splits: Splits, trained_on: Origin, keep: bool = False
) -> tuple[Config, list[str]]:
    """The configuration for testing, without side information on another dataset than the model's, and notes why.

    On the dataset that the model was trained on, side information stays as trained; images with an unknown camera or
    viewpoint get none.

    Args:
        config: the configuration of the model.
        splits: the dataset to test on.
        trained_on: the (first) dataset that the model was trained on.
        keep: keep side information on for any dataset.
    Raises: ConfigError: `keep` is set, and no test image has a known camera or viewpoint.
    """
    used = {key: getattr(config.model, key) for key in ("sie_camera", "sie_view")}
    if not any(used.values()):
        return config, []
    if keep:
        _require_known(splits, **used)
    if splits.origin.is_same(trained_on):
        return config, []
    if keep:
        named = " and ".join(f"MODEL.{key.upper()}" for key, on in used.items() if on)
        note = f"{named} on, as given: camera ids are taken for those of {trained_on.name}"
        return config, [note]
    note = f"MODEL.SIE_CAMERA and SIE_VIEW are switched off: camera ids mean nothing outside {trained_on.name}"
    if splits.origin.listings:
        note += ", which lists other images; for the same cameras set MODEL.SIE_CAMERA true"
    return _changed(config, dict.fromkeys(used, False)), [note]


def _require_known(splits: Splits, sie_camera: bool, sie_view: bool) -> None:
    """Check that at least one test image has a known camera, or viewpoint, where its side information is asked for.

    Raises: ConfigError: all are unknown.
    """
    for used, key, attribute, what in (
        (sie_camera, "SIE_CAMERA", "camid", "camera"),
        (sie_view, "SIE_VIEW", "viewid", "viewpoint"),
    ):
        if used and all(getattr(sample, attribute) == UNKNOWN for sample in (*splits.query, *splits.gallery)):
            raise ConfigError(f"MODEL.{key} true: no test image of {splits.name} has a known {what}; leave it out")


def _changed(config: Config, model: dict[str, bool]) -> Config:
    """A copy of the configuration with other values of keys below MODEL."""
    return config.model_copy(update={"model": config.model.model_copy(update=model)})


def check_cameras(config: Config, splits: Splits, side_rows: SideRows) -> None:
    """Check that the trained side information has a row for every known camera and viewpoint of the test images.

    Raises: DatasetError: it has not; the message names the cameras, or viewpoints, and an image.
    """
    samples = (*splits.query, *splits.gallery)
    for used, what, attribute, known in (
        (config.model.sie_camera, "camera", "camid", side_rows.cameras),
        (config.model.sie_view, "view", "viewid", side_rows.views),
    ):
        first: dict[int, Sample] = {}
        for sample in samples if used else ():
            first.setdefault(getattr(sample, attribute), sample)
        first.pop(UNKNOWN, None)
        if strange := sorted(first.keys() - set(known)):
            raise DatasetError(
                f"{splits.name}: test images have {what} {first_three(strange)}, counted from 0 (such as "
                f"{first[strange[0]].path}), and side information was learned for {what} {first_three(known)}; set "
                f"MODEL.SIE_{what.upper()} false, or train with images of that {what}"
            )

"""`svllreid calibrate`: labelled images, or their features, to a calibration file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from svllreid import build
from svllreid.calibration.calibration import Calibration
from svllreid.calibration.fit import calibrate
from svllreid.calibration.probability import check_method
from svllreid.calibration.record import CalibrationRecord, Reliability
from svllreid.data.duplicates import same_pictures
from svllreid.data.readers.listed_images import list_images
from svllreid.embedding.contract import EmbeddingSpec, check_same
from svllreid.errors import DatasetError, EvaluationError
from svllreid.evaluation.table_file import holds_features, read_features
from svllreid.files import user_path
from svllreid.jobs.encoding import fitting_encoder
from svllreid.libraries import need
from svllreid.runtime.progress import LiveReport, logging_to

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrateOptions:
    """How images are embedded and their distances calibrated.

    Args:
        device, precision, batch_size: see `Encoder.load`.
        cameras: cameras and viewpoints are numbered as in the training set, so that side information is added, if the
            model has any.
        skip_unreadable: leave out images that cannot be read, and count them.
        splits: only images of these splits; empty: all images.
        method, seed, mean_of: see `svllreid.calibration.fit.calibrate`.
    """

    device: str = "auto"
    precision: str | None = None
    batch_size: int | None = None
    cameras: bool = False
    skip_unreadable: bool = False
    splits: tuple[str, ...] = ()
    method: str = "logistic"
    seed: int = 0
    mean_of: int = 1


@dataclass(frozen=True)
class _Rows:
    """Labels of images, one a row, and their features if there are any yet."""

    paths: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    viewids: np.ndarray
    splits: np.ndarray
    vectors: np.ndarray | None = None

    def of(self, chosen: np.ndarray) -> _Rows:
        """Some of the rows."""
        paths, pids, camids, viewids, splits = (
            column[chosen] for column in (self.paths, self.pids, self.camids, self.viewids, self.splits)
        )
        return _Rows(paths, pids, camids, viewids, splits, None if self.vectors is None else self.vectors[chosen])


def calibrate_to_file(
    source: Path,
    weights: Path | None,
    output: Path,
    options: CalibrateOptions = CalibrateOptions(),
    console: Console | None = None,
    *,
    plot: Path | None = None,
) -> Calibration:
    """Calibrate a model's distances on labelled images, and write the calibration.

    Args:
        source: a folder or a table, see `list_images`; or a file of features, see `write_table`.
        weights: the model, see `Encoder.load`; for features it may be None, and otherwise must be their model.
        output: a .json file.
        options: of the command line.
        console: where progress is shown; None: standard error.
        plot: a .png file for the reliability of the probabilities; None: none. It is not drawn, and a warning says so,
            where there are too few identities to judge it.
    Raises: ReidError: anything that the user can fix.
    """
    console, source, output = console or Console(stderr=True), user_path(source), user_path(output)
    if output.suffix.lower() != ".json":
        raise EvaluationError(f"{output}: a calibration is written as .json; give such a name")
    check_method(options.method)
    need("sklearn.linear_model"), need("scipy.stats")  # before any image is embedded
    if plot is not None:
        from svllreid.viz.reliability import check_plot, draw_reliability

        check_plot(user_path(plot))
    with logging_to(None, console), LiveReport(console) as report:
        rows, spec, left_out = _labelled(source, options, report)
        if rows.vectors is None:
            if weights is None:
                raise EvaluationError(f"{source} holds images; name the model that embeds them", ("weights",))
            encoder = _encoder(weights, options)
            rows, spec = _embedded(rows, encoder, options.skip_unreadable, report), encoder.spec
        elif spec is None:
            raise EvaluationError(f"{source} does not say which model its features are of; embed the images again")
        elif weights is not None:
            check_same(spec, _encoder(weights, options).spec, (str(source), str(weights)))
        with report.tracking("comparing all pairs") as progress:
            calibration = calibrate(
                rows.vectors,
                rows.pids,
                rows.camids,
                spec=spec,
                dataset=source.resolve().name,
                method=options.method,
                seed=options.seed,
                left_out=left_out,
                mean_of=options.mean_of,
                progress=progress,
            )
        calibration.save(output)
        logger.info("calibration: %s", output)
        panels = _panels(calibration.record)
        if plot is not None and not panels:
            logger.warning("%s is not drawn: there are too few identities to hold some out", plot)
        elif plot is not None:
            drawn = draw_reliability(user_path(plot), calibration.record.dataset, panels)
            logger.info("reliability of %d kinds of pairs: %s", drawn, plot)
    return calibration


def _panels(record: CalibrationRecord) -> list[tuple[str, Reliability]]:
    """The reliability of every kind of pairs, then of every pair of cameras, where it is known."""
    named: list[tuple[str, Reliability | None]] = [(kind, group.reliability) for kind, group in record.pairs.items()]
    named += [("cameras {} and {}".format(*pair.cameras), pair.reliability) for pair in record.camera_pairs]
    return [(name, found) for name, found in named if found is not None]


def _encoder(weights: Path, options: CalibrateOptions) -> build.Encoder:
    """The encoder, side information as for `svllreid embed`."""
    encoder, notes = fitting_encoder(
        weights,
        None,
        options.device,
        cameras=options.cameras,
        precision=options.precision,
        batch_size=options.batch_size,
    )
    for note in notes:
        logger.info("%s", note)
    return encoder


def _labelled(source: Path, options: CalibrateOptions, report: LiveReport) -> tuple[_Rows, EmbeddingSpec | None, int]:
    """The rows with an identity, each picture once; the record of their model; and how many had no identity."""
    rows, spec, notes = _read(source)
    if options.splits:
        rows = rows.of(np.isin(rows.splits, options.splits))
        if not len(rows.pids):
            raise DatasetError(f"{source} has no image of the split {' or '.join(options.splits)}", ("splits",))
    unknown = rows.pids == ""
    if unknown.all():
        raise DatasetError(
            f"{source} names no identity; give images, or features of images, whose table has a column pid"
        )
    if unknown.any():
        notes.append(f"{unknown.sum()} of {len(unknown)} images have no pid and are left out")
    rows = rows.of(~unknown)
    first = _first_of_pictures(rows.paths, report)
    if len(first) < len(rows.paths):
        notes.append(f"{len(rows.paths) - len(first)} images repeat the picture of another one and are left out")
    rows = rows.of(first)
    if trained := int((rows.splits == "train").sum()):
        notes.append(
            f"{trained} images are of the split train; if the model was trained on their identities, the thresholds do "
            "not hold for others"
        )
    for note in notes:
        logger.info("%s", note)
    return rows, spec, int(unknown.sum())


def _first_of_pictures(paths: np.ndarray, report: LiveReport) -> np.ndarray:
    """The rows without those whose picture an earlier row has; rows without a path are kept."""
    with report.counting("comparing files", len(paths)) as count:
        pictures = same_pictures((Path(path) for path in paths if path), count)
    numbers = [pictures[Path(path)] if path else -1 - row for row, path in enumerate(paths)]
    return np.sort(np.unique(numbers, return_index=True)[1])


def _read(source: Path) -> tuple[_Rows, EmbeddingSpec | None, list[str]]:
    """All rows of a folder, a table, or a file of features."""
    if holds_features(source):
        table, spec = read_features(source)
        paths, pids, camids, viewids, splits = (
            table.columns[name] for name in ("path", "pid", "camid", "viewid", "split")
        )
        return _Rows(paths, pids, camids, viewids, splits, table.vectors), spec, []
    images, notes = list_images(source)
    texts: tuple[Sequence[str], ...] = (
        [str(image.path) for image in images],
        [image.pid for image in images],
        [image.split for image in images],
    )
    paths, pids, splits = (np.array(values, dtype=str) for values in texts)
    camids = np.array([image.camid for image in images], np.int64)
    viewids = np.array([image.viewid for image in images], np.int64)
    return _Rows(paths, pids, camids, viewids, splits), None, notes


def _embedded(rows: _Rows, encoder: build.Encoder, skip: bool, report: LiveReport) -> _Rows:
    """The rows with the features of their images, without those that cannot be read where these are skipped."""
    kept, parts, passed = list[np.ndarray](), list[np.ndarray](), 0
    with report.counting("embedding", len(rows.paths)) as count:
        for indices, features in encoder.encode_stream(
            rows.paths.tolist(),
            rows.camids.tolist(),
            rows.viewids.tolist(),
            on_error="skip" if skip else "raise",
        ):
            kept.append(indices)
            parts.append(features)
            count(int(indices[-1]) + 1 - passed)
            passed = int(indices[-1]) + 1
    if not kept:
        raise DatasetError("no image could be read; check the paths")
    chosen = np.concatenate(kept)
    if len(chosen) < len(rows.paths):
        logger.warning("%d images could not be read and were left out", len(rows.paths) - len(chosen))
    some = rows.of(chosen)
    return _Rows(some.paths, some.pids, some.camids, some.viewids, some.splits, np.concatenate(parts))

"""Exporting a checkpoint to another runtime, and comparing what was written with PyTorch."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from svllreid import __version__, build
from svllreid.config import Config, from_tree
from svllreid.data.images import open_image
from svllreid.data.readers.layout import IMAGE_SUFFIXES
from svllreid.embedding.boxmot import write_boxmot
from svllreid.embedding.contract import Embedder, EmbeddingSpec
from svllreid.embedding.export import Variant, export_model
from svllreid.embedding.exported import Agreement, pixel_input
from svllreid.embedding.formats import FORMATS
from svllreid.errors import DatasetError, ExportError
from svllreid.evaluation.features import FeatureSet
from svllreid.files import is_file, is_folder, user_path
from svllreid.jobs.embedding import embed_samples
from svllreid.jobs.preparing import Options, load_test_splits
from svllreid.jobs.testing import TestSet, log_notes, prepare_tests, rank, test_config
from svllreid.models.checkpoint import CheckpointInfo
from svllreid.models.reid import SVLLReID
from svllreid.runtime.progress import LiveReport, logging_to
from svllreid.types import UNKNOWN, SideRows

MOST_IMAGES = 64
"""Images that are compared; of a folder with more, as many spread evenly over the sorted names."""
CALIBRATION_IMAGES = 128
SPEED_BATCH, SPEED_SECONDS = 8, 2.0


@dataclass(frozen=True)
class ExportOptions:
    """What the command line asks of an export.

    Args:
        kind: the format; None takes that of the file's suffix.
        pixels: the kind of input, one of `embedding.exported.PIXELS`.
        images: a folder of real images that are compared too.
        int8: write int8.
        calibrate: a folder of images that set the ranges of static int8.
        evaluate: rank the test sets of the configuration with each model.
    """

    kind: str | None = None
    pixels: str = "uint8"
    images: Path | None = None
    int8: bool = False
    calibrate: Path | None = None
    evaluate: bool = False


@dataclass(frozen=True)
class Measured:
    """A row of the table after an export.

    Args:
        name: the model.
        agreement: how similar its features are to those of PyTorch.
        images_per_second: in batches of SPEED_BATCH images.
        size: bytes of its files.
        ranking: mAP and rank-1 by test set, fractions.
    """

    name: str
    agreement: Agreement
    images_per_second: float
    size: int
    ranking: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def run_export(
    weights: Path,
    output: Path,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    options: ExportOptions = ExportOptions(),
    console: Console | None = None,
) -> list[Measured]:
    """Write a checkpoint as a file of another runtime; return a row for PyTorch and for each model that was made.

    Args:
        weights: the checkpoint.
        output: the file.
        config_file: a YAML file; None takes the configuration beside the checkpoint.
        overrides: KEY VALUE words of the command line.
        options: the other options of the command line.
        console: shows the progress; None: on stderr.
    Raises: ReidError: anything that the user can fix; nothing is written then.
    """
    output = user_path(output)
    kind = options.kind or _kind_of(output)
    _check(output, kind, options)
    console = console or Console(stderr=True)
    with logging_to(None, console), LiveReport(console) as report:
        config = test_config(config_file, [*overrides, f"TEST.WEIGHT={user_path(weights)}"])
        model, config, info = build.load_trained(user_path(weights), config)
        embedder = build.build_export_embedder(config, model)
        tests = _tests(config, info, model, report) if options.evaluate else []
        spec = embedder.spec
        calibration = pictures(options.calibrate, spec, CALIBRATION_IMAGES, report) if options.calibrate else None
        real = pictures(options.images, spec, MOST_IMAGES, report) if options.images else calibration
        made = export_model(
            embedder,
            model.side_rows,
            output,
            kind=kind,
            pixels=options.pixels,
            real=real if real is None else real[:: -(-len(real) // MOST_IMAGES)],
            int8=options.int8,
            calibration=calibration,
            version=__version__,
        )
        size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        variants = [Variant("PyTorch float32", embedder, size, Agreement(made[0].agreement.images, 1.0, 1.0)), *made]
        return [_measured(variant, tests, model.side_rows, report) for variant in variants]


def run_export_for_boxmot(
    weights: Path, output: Path, config_file: Path | None = None, overrides: Sequence[str] = ()
) -> float:
    """Write the ONNX file that BoxMOT's trackers use as their ReID network; see `write_boxmot`.

    Args:
        weights, output, config_file, overrides: see `run_export`.
    Raises: ReidError: anything that the user can fix; nothing is written then.
    """
    console = Console(stderr=True)
    with logging_to(None, console):
        config = test_config(config_file, [*overrides, f"TEST.WEIGHT={user_path(weights)}"])
        model, config, _ = build.load_trained(user_path(weights), config)
        return write_boxmot(build.build_export_embedder(config, model), output)


def _kind_of(output: Path) -> str:
    """The format that a file's suffix stands for.

    Raises: ExportError: none.
    """
    for kind, form in FORMATS.items():
        if output.suffix.lower() == form.suffix:
            return kind
    known = ", ".join(f"{form.suffix} ({kind})" for kind, form in FORMATS.items())
    raise ExportError(f"{output}: its suffix names no format; end the file's name in one of {known}")


def _check(output: Path, kind: str, options: ExportOptions) -> None:
    """Check the options before anything is loaded.

    Raises: ExportError: options that do not fit each other, or the file.
    """
    if kind not in FORMATS:
        raise ExportError(f"--format {kind}: unknown; choose one of {', '.join(FORMATS)}")
    if output.suffix != FORMATS[kind].suffix:
        raise ExportError(f"{output}: a file of the format {kind} ends in {FORMATS[kind].suffix}; name it so")
    if options.calibrate is not None and not options.int8:
        raise ExportError("--calibrate sets the ranges of int8; give --int8 too, or leave it out")
    if is_folder(output):
        raise ExportError(f"{output} is a folder; name a file")
    weights = output.with_suffix(".bin")
    if kind == "openvino" and weights.exists() and not is_file(output):
        raise ExportError(
            f"{weights} is there already, without {output.name}, so it may belong to something else, and the weights "
            "of this model would replace it; name another file, or remove it"
        )


def pictures(folder: Path, spec: EmbeddingSpec, most: int, report: LiveReport) -> Tensor:
    """The images in a folder and below it, resized as the model takes them: (n, 3, H, W) uint8.

    Args:
        folder: the folder.
        spec: the record of the model, which says how images are resized.
        most: of more images, as many spread evenly over the sorted paths are taken.
        report: shows the progress.
    Raises: DatasetError: no such folder, or no images in it. ImageError: one cannot be read.
    """
    base = user_path(folder)
    if not is_folder(base):
        raise DatasetError(f"{base} is no folder; name one that holds images")
    paths = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(base)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".") and is_file(Path(parent, name))
    )
    if not paths:
        raise DatasetError(f"{base} and the folders below it hold no images; name a folder with images")
    chosen = [paths[row * len(paths) // most] for row in range(most)] if len(paths) > most else paths
    transform = build.transform_of(spec)
    with report.counting(f"images of {base.name}", len(chosen)) as count:
        pixels = []
        for path in chosen:
            pixels.append(pixel_input(transform(open_image(path))[None], spec, "uint8"))
            count(1)
    return torch.from_numpy(np.concatenate(pixels))


def _tests(config: Config, info: CheckpointInfo | None, model: SVLLReID, report: LiveReport) -> list[TestSet]:
    """The test sets of the configuration, whose labels and cameras are checked before anything is exported."""
    origin = build.trained_on(from_tree(info.config, "the checkpoint") if info is not None else config, info)
    tests = prepare_tests(load_test_splits(config, Options(), report), config, origin, model.side_rows)
    log_notes(tests)
    return tests


def _measured(variant: Variant, tests: Sequence[TestSet], side_rows: SideRows, report: LiveReport) -> Measured:
    """A model's row of the table."""
    ranking = {test.name: _ranked(variant.embedder, test, side_rows, report) for test in tests}
    return Measured(
        variant.name,
        variant.agreement,
        images_per_second(variant.embedder, SPEED_BATCH, SPEED_SECONDS),
        variant.size,
        ranking,
    )


def images_per_second(embedder: Embedder, batch_size: int, seconds: float) -> float:
    """How many images an embedder takes in a second: the median of batches, measured for about `seconds`."""
    images = torch.zeros(batch_size, 3, *embedder.spec.image_size)
    ids = torch.full((batch_size,), UNKNOWN)
    times: list[float] = []
    with torch.inference_mode():
        embedder(images, ids, ids)
        while len(times) < 3 or sum(times) < seconds:
            start = time.perf_counter()
            embedder(images, ids, ids)
            times.append(time.perf_counter() - start)
    return batch_size / statistics.median(times)


def _ranked(embedder: Embedder, test: TestSet, side_rows: SideRows, report: LiveReport) -> tuple[float, float]:
    """mAP and rank-1 of an embedder on a test set, fractions."""
    config, fabric = test.config, build.build_fabric(test.config, "cpu")
    rows = side_rows if config.model.sie_camera or config.model.sie_view else None
    query, gallery = (
        embed_samples(embedder, samples, config, fabric, report, text=f"features of {name}", side_rows=rows).vectors
        for name, samples in (("query", test.splits.query), ("gallery", test.splits.gallery))
    )
    features = replace(FeatureSet.of(test.splits, query, gallery, embedder.spec), name=test.name)
    metrics = rank(features, config, report).metrics
    return metrics["mAP"], metrics["rank1"]

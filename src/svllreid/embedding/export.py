"""Writes a PyTorch embedder as a file that other runtimes compute with, after comparing the features of both."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from svllreid.embedding.exported import Agreement, ExportedEmbedder, ExportRecord, quiet
from svllreid.embedding.formats import FORMATS, FeatureGraph, Format
from svllreid.embedding.torch import TorchEmbedder
from svllreid.embedding.trials import TrialImages
from svllreid.errors import ExportError
from svllreid.files import atomic_write
from svllreid.types import SideRows

MIN_COSINE = 0.9999
"""Below this cosine of an image's features with those of PyTorch, a float32 file is not written."""
MIN_INT8_COSINE = 0.95
"""Below this mean cosine an int8 file is not written: quantisation loses some precision, but not that much."""


@dataclass(frozen=True)
class Variant:
    """A model that was made for an export, to compare it with others.

    Args:
        name: what tables call it, such as `onnx int8`.
        embedder: the model, loaded by its runtime.
        size: bytes of its files.
        agreement: how similar its features are to those of PyTorch.
    """

    name: str
    embedder: TorchEmbedder | ExportedEmbedder
    size: int
    agreement: Agreement


def export_model(
    embedder: TorchEmbedder,
    side_rows: SideRows,
    file: Path,
    *,
    kind: str = "onnx",
    pixels: str = "uint8",
    real: Tensor | None = None,
    int8: bool = False,
    calibration: Tensor | None = None,
    version: str = "",
) -> list[Variant]:
    """Write an embedder as a file of another runtime, if that runtime computes the same features.

    Args:
        embedder: the network with its settings, in precision 32 on the CPU.
        side_rows: the row of the side information that belongs to each camera and viewpoint.
        file: what is written, atomically; OpenVINO's weights go beside it.
        kind: one of `formats.FORMATS`.
        pixels: the kind of input, one of `exported.PIXELS`.
        real: (n, 3, H, W) uint8, real images that are compared beside random ones; int8 is compared on these alone.
        int8: write the model in int8. ONNX without calibration: weights int8, activations quantised as they come.
        calibration: (n, 3, H, W) uint8, images whose activations set the ranges of static int8.
        version: of svllreid, for the record.
    Returns: the float32 model, and with `int8` that too.
    Raises:
        ExportError: a library is missing, the model cannot be exported, or the features differ.
        OutputError: the file cannot be written.
    """
    form = FORMATS[kind]
    if int8:
        _check_int8(kind, calibration)
    noise = TrialImages.random(embedder.spec.image_size, side_rows)
    trials = [noise] if real is None else [TrialImages.of(real, side_rows), noise]
    graph = FeatureGraph(embedder, pixels).eval()
    record = ExportRecord(embedder.spec, side_rows, pixels, Agreement(0, 0.0, 0.0), version)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        with quiet():
            program = _built(form, graph, next(noise.inputs(embedder.spec, pixels)))
        made = [_compared(f"{kind} float32", form, program, record, embedder, trials, scratch)]
        _require(made[0].agreement.minimum, MIN_COSINE, made[0].name)
        if int8:
            record = replace(record, spec=replace(record.spec, precision="int8"))
            samples = None if calibration is None else TrialImages.of(calibration, side_rows)
            batches = None if samples is None else list(samples.inputs(record.spec, pixels))
            with quiet():
                program = form.quantize(program, batches)
            static = "dynamic" if calibration is None else "static"
            made.append(_compared(f"{kind} int8 {static}", form, program, record, embedder, trials[:1], scratch))
            _require(made[1].agreement.mean, MIN_INT8_COSINE, made[1].name)
        last = scratch / f"last{form.suffix}"
        form.write(program, replace(record, agreement=made[-1].agreement), last)
        _publish(last, file)
    return made


def _check_int8(kind: str, calibration: Tensor | None) -> None:
    """Check that a format can be written in int8.

    Raises: ExportError: it cannot.
    """
    if kind not in ("onnx", "openvino"):
        raise ExportError(f"{kind} files are written in float32 alone; for int8 choose the format onnx or openvino")
    if kind == "openvino" and calibration is None:
        raise ExportError(
            "OpenVINO's int8 needs images to calibrate with: name a folder of them, or choose the format onnx",
            settings=("calibration images",),
        )


def _built(form: Format, graph: FeatureGraph, inputs: Mapping[str, np.ndarray]) -> Any:
    """The model in a format.

    Raises: ExportError: the format cannot express the model.
    """
    try:
        return form.build(graph, inputs)
    except (RuntimeError, ValueError, TypeError) as error:  # PyTorch's exporters raise subclasses of all three
        reason = str(error).strip().partition("\n")[0][:300]
        raise ExportError(f"the model cannot be exported to {form.suffix} ({reason}); choose another format") from error


def _compared(
    name: str,
    form: Format,
    program: Any,
    record: ExportRecord,
    embedder: TorchEmbedder,
    trials: list[TrialImages],
    scratch: Path,
) -> Variant:
    """Write a model to a scratch folder, load it in its runtime, and compare its features with those of PyTorch."""
    file = scratch / f"{name.replace(' ', '_')}{form.suffix}"
    form.write(program, record, file)
    loaded = form.load(file)
    features, reference = (np.concatenate([trial.features(one) for trial in trials]) for one in (loaded, embedder))
    size = sum(part.stat().st_size for part in _files(file))
    return Variant(name, loaded, size, Agreement.of(features, reference))


def _require(cosine: float, least: float, name: str) -> None:
    """Check the cosine of a model's features with those of PyTorch.

    Raises: ExportError: it is too small.
    """
    if cosine < least:
        raise ExportError(
            f"{name}: the cosine of its features with those of PyTorch is {cosine:.6f}, less than {least}; nothing was "
            "written. Choose another format"
        )


def _files(file: Path) -> list[Path]:
    """The files of a model, the one that users name last."""
    weights = file.with_suffix(".bin")
    return [weights, file] if file.suffix == ".xml" else [file]


def _publish(source: Path, file: Path) -> None:
    """Copy a model to where the user wants it, each of its files atomically."""
    for part, target in zip(_files(source), _files(file), strict=True):
        with atomic_write(target) as temporary:
            shutil.copyfile(part, temporary)

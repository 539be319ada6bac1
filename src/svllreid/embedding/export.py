"""Writes a PyTorch embedder as a file that other runtimes compute with, after comparing the features of both."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from svllreid.embedding import onnx, openvino, quantize
from svllreid.embedding.exported import (
    CAMERA_ROWS,
    FEATURES,
    RECORD_KEY,
    VIEW_ROWS,
    Agreement,
    ExportedEmbedder,
    ExportRecord,
    inputs_of,
    load_library,
    quiet,
)
from svllreid.embedding.torch import TorchEmbedder
from svllreid.embedding.trials import TrialImages
from svllreid.errors import ExportError
from svllreid.files import atomic_write
from svllreid.types import SideRows

OPSET = 18
MIN_COSINE = 0.9999
"""Below this cosine of an image's features with those of PyTorch, a float32 file is not written."""
MIN_INT8_COSINE = 0.95
"""Below this mean cosine an int8 file is not written: quantisation loses some precision, but not that much."""
_MOST_BYTES = 2**31 - 1  # of an ONNX file, which is one Protocol Buffers message
_RECORD_FILE = f"{RECORD_KEY}.json"


class FeatureGraph(nn.Module):
    """All that an exported file computes: normalisation, network, neck, mirror image, length 1.

    Args:
        embedder: the network with its settings.
        pixels: the kind of input, one of `exported.PIXELS`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, embedder: TorchEmbedder, pixels: str) -> None:
        super().__init__()
        self.network, self.embedder, self.pixels = embedder.model, embedder, pixels
        self.rows = inputs_of(embedder.spec)[1:]
        scale = 255.0 if pixels == "uint8" else 1.0
        for name, values in (("mean", embedder.transform.mean), ("std", embedder.transform.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) * scale, persistent=False)

    def forward(self, images: Tensor, *rows: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, H, W) and of each row of side information (B,), in the order of `rows`."""
        if self.pixels != "normalised":
            images = (images.float() - self.mean) / self.std
        ids = dict(zip(self.rows, rows, strict=True))
        return self.embedder.features(images, ids.get(CAMERA_ROWS), ids.get(VIEW_ROWS))


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
        kind: one of FORMATS.
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
    if int8 and (problem := _without_int8(kind, calibration)):
        raise ExportError(problem)
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


def _without_int8(kind: str, calibration: Tensor | None) -> str:
    """Why a format cannot be written in int8; empty where it can."""
    if kind not in ("onnx", "openvino"):
        return f"{kind} files are written in float32 alone; for int8 choose the format onnx or openvino"
    if kind == "openvino" and calibration is None:
        return "OpenVINO's int8 needs images to calibrate with: name a folder with --calibrate, or choose onnx"
    return ""


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


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        suffix: of its files.
        build: makes the model from the graph and an example of its inputs.
        write: writes the model with its record.
        load: the embedder of a written file.
        quantize: makes the int8 model from the float32 one and calibration inputs, None without.
    """

    suffix: str
    build: Callable[[FeatureGraph, Mapping[str, np.ndarray]], Any]
    write: Callable[[Any, ExportRecord, Path], None]
    load: Callable[[Path], ExportedEmbedder]
    quantize: Callable[[Any, list[dict[str, np.ndarray]] | None], Any] = lambda program, batches: program


def _example(inputs: Mapping[str, np.ndarray]) -> tuple[Tensor, ...]:
    """The inputs for two images: PyTorch takes a batch size of 1 for a constant."""
    return tuple(torch.from_numpy(np.repeat(value, 2, axis=0)) for value in inputs.values())


def _dynamic(count: int, batch: Any) -> tuple[Any, ...]:
    """The dynamic shapes of `count` inputs, each of which has the batch as its first dimension."""
    return (batch, (batch,) * (count - 1)) if count > 1 else (batch,)


def _build_onnx(graph: FeatureGraph, inputs: Mapping[str, np.ndarray]) -> Any:
    for name in ("onnx", "onnxscript"):
        load_library(name, onnx.EXTRA)
    args = _example(inputs)
    program = torch.onnx.export(
        graph,
        args,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=[FEATURES],
        dynamic_shapes=_dynamic(len(args), {0: "batch"}),
        verbose=False,
    )
    if program is None:
        raise ExportError("PyTorch returned no ONNX model; export it with another version of PyTorch")
    size = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
    if size > _MOST_BYTES:
        raise ExportError(
            f"the model has {size / 1e9:.1f} GB of weights, and an ONNX file holds 2 GB; choose the format torch-export"
        )
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        del part.metadata_props[:]  # names of source files on this machine, and PyTorch's own notes
    return model


def _write_onnx(model: Any, record: ExportRecord, file: Path) -> None:
    library = load_library("onnx", onnx.EXTRA)
    library.helper.set_model_props(model, {RECORD_KEY: record.to_json()})
    library.save_model(model, str(file))


def _build_openvino(graph: FeatureGraph, inputs: Mapping[str, np.ndarray]) -> Any:
    library = load_library("openvino", openvino.EXTRA)
    return library.Core().read_model(_build_onnx(graph, inputs).SerializeToString())


def _write_openvino(model: Any, record: ExportRecord, file: Path) -> None:
    model.set_rt_info(record.to_json(), RECORD_KEY)
    load_library("openvino", openvino.EXTRA).save_model(model, str(file), compress_to_fp16=False)


def _build_program(graph: FeatureGraph, inputs: Mapping[str, np.ndarray]) -> Any:
    args = _example(inputs)
    shapes = _dynamic(len(args), {0: torch.export.Dim.DYNAMIC})
    return torch.export.export(graph, args, dynamic_shapes=shapes, strict=False)


def _write_program(program: Any, record: ExportRecord, file: Path) -> None:
    with quiet():
        torch.export.save(program, file, extra_files={_RECORD_FILE: record.to_json()})


def _build_script(graph: FeatureGraph, inputs: Mapping[str, np.ndarray]) -> Any:
    with torch.no_grad():
        return torch.jit.trace(graph, _example(inputs), check_trace=False)


def _write_script(script: Any, record: ExportRecord, file: Path) -> None:
    with quiet():
        torch.jit.save(script, str(file), _extra_files={_RECORD_FILE: record.to_json()})


class _ProgramEmbedder(ExportedEmbedder):
    """Features from a file of torch.export or TorchScript, which was just written: such files can run any code."""

    def __init__(self, file: Path) -> None:
        extra = {_RECORD_FILE: ""}
        with quiet():
            if file.suffix == FORMATS["torchscript"].suffix:
                self.program = torch.jit.load(str(file), _extra_files=extra)
            else:
                self.program = torch.export.load(file, extra_files=extra).module()
        text: Any = extra[_RECORD_FILE]
        super().__init__(ExportRecord.from_json(text.decode() if isinstance(text, bytes) else text, file))

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The features (B, D) float32 of the inputs by name."""
        return self.program(*map(torch.from_numpy, inputs.values())).detach().numpy()


FORMATS = {
    "onnx": Format(".onnx", _build_onnx, _write_onnx, lambda file: onnx.OnnxEmbedder(file, "cpu"), quantize.onnx_int8),
    "openvino": Format(
        ".xml", _build_openvino, _write_openvino, lambda file: openvino.OpenVinoEmbedder(file), quantize.openvino_int8
    ),
    "torch-export": Format(".pt2", _build_program, _write_program, _ProgramEmbedder),
    "torchscript": Format(".ts", _build_script, _write_script, _ProgramEmbedder),
}
"""The formats by name."""

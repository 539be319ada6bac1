"""The formats of exported files: how each is made from a PyTorch embedder, written, loaded and turned into int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    ExportedEmbedder,
    ExportRecord,
    inputs_of,
    load_library,
    quiet,
)
from svllreid.embedding.torch import TorchEmbedder
from svllreid.errors import ExportError

OPSET = 18
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

"""Exported models in int8: the matrix products and convolutions compute with 8-bit numbers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from svllreid.embedding.exported import load_library, quiet

Inputs = dict[str, np.ndarray]


def onnx_int8(model: Any, calibration: list[Inputs] | None) -> Any:
    """An ONNX model in int8.

    Weights are signed, with a scale for each output channel: onnxruntime computes these 1.5 to 2 times as fast as
    unsigned ones. Without calibration every matrix product finds the range of its input as it comes. With calibration
    the ranges are constants (QDQ), and convolutions are quantised too.

    Args:
        model: the float32 model.
        calibration: inputs of single images; None: dynamic ranges.
    """
    library = load_library("onnx", "export")
    runtime = load_library("onnxruntime.quantization", "export")
    signed = runtime.QuantType.QInt8
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, quiet():
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        library.save_model(model, str(source))
        if calibration is None:
            runtime.quantize_dynamic(
                source, target, weight_type=signed, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
            )
        else:
            prepared = Path(folder, "prepared.onnx")
            runtime.quant_pre_process(source, prepared, skip_symbolic_shape=True)
            runtime.quantize_static(
                prepared,
                target,
                _Reader(calibration),
                quant_format=runtime.QuantFormat.QDQ,
                op_types_to_quantize=["MatMul", "Gemm", "Conv"],
                activation_type=runtime.QuantType.QUInt8,
                weight_type=signed,
                per_channel=True,
                # The products of attention, both of whose sides are activations, stay in float32.
                extra_options={"MatMulConstBOnly": True},
            )
        return library.load_model(str(target))


def openvino_int8(model: Any, calibration: list[Inputs] | None) -> Any:
    """An OpenVINO model in int8, with ranges from calibration; activations are smoothed as transformers need it.

    Args:
        model: the float32 model.
        calibration: inputs of single images.
    """
    with quiet(), _no_telemetry():
        library = load_library("nncf", "openvino")
        return library.quantize(
            model,
            library.Dataset(calibration),
            model_type=library.ModelType.TRANSFORMER,
            subset_size=len(calibration or ()),
        )


class _Reader:
    """Calibration inputs as onnxruntime reads them, one after the other."""

    def __init__(self, calibration: list[Inputs]) -> None:
        self.inputs = iter(calibration)

    def get_next(self) -> Inputs | None:
        """The next inputs; None at the end."""
        return next(self.inputs, None)


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """A context in which NNCF, if it is imported, sends nothing to its makers."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before

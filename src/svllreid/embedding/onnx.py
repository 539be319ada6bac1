"""An exported ONNX file as an `Embedder`, which onnxruntime runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from svllreid.embedding.exported import RECORD_KEY, ExportedEmbedder, ExportRecord, existing_file, load_library
from svllreid.errors import CheckpointError, DeviceError

EXTRA = "export"
_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class OnnxEmbedder(ExportedEmbedder):
    """Features from an ONNX file that `svllreid export` wrote.

    On the CPU it uses as many threads as PyTorch does (`torch.set_num_threads`).

    Args:
        path: the file.
        device: auto (CUDA where onnxruntime has it, else the CPU), cpu, cuda, cuda:1 or tensorrt.
    Raises:
        ExportError: onnxruntime is not installed.
        CheckpointError: not an ONNX file, one that `svllreid export` did not write, or one that was changed since.
        DeviceError: this installation of onnxruntime cannot use the device.
    """

    def __init__(self, path: str | Path, device: str = "auto") -> None:
        runtime = load_library("onnxruntime", EXTRA)
        file = existing_file(path)
        providers = _providers(device, runtime.get_available_providers())
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors alone
        try:
            # By its path, so that onnxruntime refuses external data outside the folder of the file.
            self.session = runtime.InferenceSession(str(file), options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            reason = str(error).strip().partition("\n")[0]
            raise CheckpointError(
                f"{file} cannot be loaded by onnxruntime ({reason}); give a file that `svllreid export` wrote, or "
                "export the model again"
            ) from None
        super().__init__(ExportRecord.from_json(self.session.get_modelmeta().custom_metadata_map.get(RECORD_KEY), file))
        _check_provider(providers[0], self.session.get_providers(), device)
        self.try_one(file)

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The features (B, D) float32 of the inputs by name."""
        return self.session.run(None, dict(inputs))[0]


def _providers(device: str, available: list[str]) -> list[Any]:
    """The execution providers of a device, the preferred one first.

    Raises: DeviceError: onnxruntime has none for the device.
    """
    kind, _, index = device.partition(":")
    if kind == "auto":
        kind = "cuda" if _CUDA in available and torch.cuda.is_available() else "cpu"
    wanted = {"cpu": _CPU, "cuda": _CUDA, "tensorrt": _TENSORRT}.get(kind)
    if wanted is None or wanted not in available or (index and (wanted == _CPU or not index.isdecimal())):
        raise DeviceError(
            f"device {device}: this onnxruntime cannot use it, it has {', '.join(available)}; choose cpu or auto, or "
            "install onnxruntime-gpu for cuda and tensorrt"
        )
    if wanted == _CPU:
        return [_CPU]
    following = [_CUDA] if wanted == _TENSORRT and _CUDA in available else []
    return [(name, {"device_id": int(index or 0)}) for name in (wanted, *following)] + [_CPU]


def _check_provider(wanted: Any, used: list[str], device: str) -> None:
    """Check that onnxruntime did not silently compute on another device.

    Raises: DeviceError: it did.
    """
    name = wanted if isinstance(wanted, str) else wanted[0]
    if name not in used:
        raise DeviceError(
            f"device {device}: onnxruntime could not start {name} and would use {used[0]}; choose cpu, or check that "
            "CUDA's libraries fit this version of onnxruntime"
        )

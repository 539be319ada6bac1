"""An exported OpenVINO model as an `Embedder`, which OpenVINO runs on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from svllreid.embedding.exported import RECORD_KEY, ExportedEmbedder, ExportRecord, existing_file, load_library
from svllreid.errors import CheckpointError, DeviceError
from svllreid.files import is_file

EXTRA = "openvino"


class OpenVinoEmbedder(ExportedEmbedder):
    """Features from an OpenVINO model that `svllreid export` wrote: an .xml file with a .bin file beside it.

    It uses as many threads as PyTorch does (`torch.set_num_threads`), and float32 where the model is not int8. Several
    threads of the caller take turns.

    Args:
        path: the .xml file.
        device: auto or cpu.
    Raises:
        ExportError: OpenVINO is not installed.
        CheckpointError: not an OpenVINO model, one that `svllreid export` did not write, or one that was changed since.
        DeviceError: another device.
    """

    def __init__(self, path: str | Path, device: str = "auto") -> None:
        openvino = load_library("openvino", EXTRA)
        if device not in ("auto", "cpu"):
            raise DeviceError(f"device {device}: OpenVINO models are run on the CPU; choose cpu or auto")
        file = existing_file(path)
        weights = file.with_suffix(".bin")
        if not is_file(weights):
            raise CheckpointError(f"{file} needs its weights {weights.name} beside it; restore them, or export again")
        core = _core(openvino)
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # not bfloat16, which it would choose where the CPU has it
        }
        try:
            model = core.read_model(str(file), str(weights))
            known = RECORD_KEY in model.rt_info
            record = ExportRecord.from_json(model.get_rt_info(RECORD_KEY).astype(str) if known else None, file)
            compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{file} cannot be loaded by OpenVINO ({reason}); give a file that `svllreid export` wrote, or export "
                "the model again"
            ) from None
        super().__init__(record)
        # A request holds one batch: of two threads that use it at once, one gets the features of the other.
        self.request, self.lock = compiled.create_infer_request(), Lock()
        self.try_one(file)

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The features (B, D) float32 of the inputs by name."""
        with self.lock:
            return self.request.infer(dict(inputs))[0]


@cache
def _core(openvino: Any) -> Any:
    """The Core of this process, which is never freed.

    OpenVINO gives the thread that loads its CPU plugin another stack for signals. If the last model were freed in
    another thread, that stack would be gone, and the next Ctrl-C end in a segmentation fault (OpenVINO 2026.4.1).
    """
    return openvino.Core()

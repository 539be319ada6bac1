"""Device, precision, processes; ranking."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric import Fabric

from svllreid.config import Config
from svllreid.errors import DeviceError
from svllreid.evaluation.rerank import RerankOptions
from svllreid.training.parallel import OneModel

PRECISIONS: dict[str, Any] = {"32": "32-true", "tf32": "32-true", "16-mixed": "16-mixed", "bf16-mixed": "bf16-mixed"}


def build_fabric(config: Config, device: str = "auto") -> Fabric:
    """Device and arithmetic; DeviceError where the device is not there."""
    there = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    indexed = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if device == "auto":
        device = there[0]
    kind, _, index = device.partition(":")
    if device not in there and device not in indexed:
        found = ", ".join([*indexed, *there])
        raise DeviceError(f"--device {device}: not on this machine, which has {found}; choose one of these, or auto")
    precision = config.solver.precision
    if precision == "auto":
        precision = "16-mixed" if kind == "cuda" else "32"
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if world == 1:
        return Fabric(accelerator=kind, devices=[int(index)] if index else 1, precision=PRECISIONS[precision])
    fabric = Fabric(
        accelerator=kind,
        devices=local,
        num_nodes=world // local,
        strategy=OneModel(),
        precision=PRECISIONS[precision],
    )
    fabric.launch()
    return fabric


def build_rerank(config: Config) -> RerankOptions | None:
    """Re-ranking with the published k1 50, k2 15, lambda 0.3, where it is on."""
    return RerankOptions() if config.test.re_ranking else None

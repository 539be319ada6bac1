"""Device, precision, processes; ranking."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric import Fabric

from svllreid.config import Config
from svllreid.errors import ConfigError, DeviceError
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.models.reid import SVLLReID
from svllreid.runtime.gather import num_processes
from svllreid.runtime.processes import ReplicaStrategy
from svllreid.training.sharding import shard

PRECISIONS: dict[str, Any] = {"32": "32-true", "tf32": "32-true", "16-mixed": "16-mixed", "bf16-mixed": "bf16-mixed"}


def build_fabric(config: Config, device: str) -> Fabric:
    """Lightning's Fabric: the device, the precision, and the processes that train together.

    Args:
        config: SOLVER.PRECISION counts.
        device: auto (CUDA, else MPS, else the CPU), cpu, cuda, cuda:1 or mps.
    Raises: DeviceError: this machine has no such device.
    """
    kinds = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    indexed = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if device == "auto":
        device = kinds[0]
    kind, _, index = device.partition(":")
    if device not in kinds and device not in indexed:
        present = ", ".join([*indexed, *kinds])
        raise DeviceError(f"--device {device}: not on this machine, which has {present}; choose one of these, or auto")
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
        strategy=ReplicaStrategy(),
        precision=PRECISIONS[precision],
    )
    fabric.launch()
    return fabric


def precision_of(config: Config, fabric: Fabric) -> str:
    """The precision that is used: `32`, `tf32`, `16-mixed` or `bf16-mixed`.

    It may differ from SOLVER.PRECISION: `auto` is decided by the device, `tf32` is `32` except on CUDA, and on a CPU
    Fabric replaces `16-mixed` by `bf16-mixed`.
    """
    used = str(fabric.strategy.precision.precision)
    if used != PRECISIONS["32"]:
        return used
    return "tf32" if config.solver.precision == "tf32" and fabric.device.type == "cuda" else "32"


def build_rerank(config: Config) -> RerankOptions | None:
    """The options of re-ranking; None where TEST.RE_RANKING is off."""
    test = config.test
    return RerankOptions(test.re_ranking_k1, test.re_ranking_k2, test.re_ranking_lambda) if test.re_ranking else None


def shard_encoder(config: Config, model: SVLLReID, fabric: Fabric) -> None:
    """Shard the image encoder over the processes (FSDP), if SOLVER.SHARD is on and there are several.

    Raises: ConfigError: float16, whose loss scaling needs whole gradients.
    """
    if not config.solver.shard or num_processes() == 1:
        return
    if fabric.strategy.precision.precision == "16-mixed":
        raise ConfigError("SOLVER.SHARD works in bf16-mixed, tf32 or 32; set SOLVER.PRECISION bf16-mixed")
    model.image_encoder.to(memory_format=torch.contiguous_format)  # what can be sharded
    shard(model.image_encoder, model.image_encoder.blocks[:-1], fabric.device)  # the last one is never called whole

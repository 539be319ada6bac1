"""Stage 1's cached image features: one sweep over the training images, kept for as long as nothing changes them."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from lightning.fabric import Fabric
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from svllreid import build
from svllreid.config import Config
from svllreid.data.images import DECODING
from svllreid.data.loader import batches
from svllreid.embedding.loop import extract
from svllreid.files import atomic_write, file_stamp
from svllreid.models.digest import weights_digest
from svllreid.models.reid import SVLLReID
from svllreid.runtime.processes import own_rows, rows_of_all
from svllreid.runtime.progress import LiveReport

logger = logging.getLogger(__name__)


def image_features(
    config: Config, model: SVLLReID, data: build.TrainingData, fabric: Fabric, report: LiveReport, folder: Path
) -> Tensor:
    """`proj` (n, E) of the training images on the device: test transform, eval mode, no side information.

    Those in `folder` are taken again where files, transform, arithmetic and weights are the same.
    """
    model.eval()
    file = folder / "image_features.safetensors"
    key = _key(config, model, data, fabric) if fabric.is_global_zero else ""
    features: Tensor | None = fabric.broadcast(_read(file, key) if fabric.is_global_zero else None)
    if features is None:
        features = _compute(config, model, data, fabric, report)
        if fabric.is_global_zero:
            with atomic_write(file) as temporary:
                save_file({"features": features}, temporary, metadata={"key": key})
    else:
        logger.info("image features of stage 1 are taken from %s", file)
    return features.to(fabric.device)


def _compute(config: Config, model: SVLLReID, data: build.TrainingData, fabric: Fabric, report: LiveReport) -> Tensor:
    """Every process embeds a share."""
    own = [data.samples[row] for row in own_rows(len(data.samples))]
    loader = build.build_test_loader(config, own, fabric)
    with report.counting("stage 1: image features", len(own)) as count, fabric.autocast():
        features = extract(lambda batch: model.encode_image(batch.images).proj, batches(loader), fabric.device, count)
    # Cloned: no inference tensor, autograd may keep it.
    return rows_of_all(features.clone(), len(data.samples), fabric.device)


def _read(file: Path, key: str) -> Tensor | None:
    try:
        with safe_open(file, framework="pt") as saved:
            return saved.get_tensor("features") if (saved.metadata() or {}).get("key") == key else None
    except (OSError, SafetensorError):
        return None


def _key(config: Config, model: SVLLReID, data: build.TrainingData, fabric: Fabric) -> str:
    """A digest of all that determines the features."""
    arithmetic = build.precision_of(config, fabric), fabric.device.type
    settings = DECODING, config.input, arithmetic, weights_digest(model.image_encoder)
    digest = hashlib.sha256(repr(settings).encode())
    for sample in data.samples:
        digest.update(file_stamp(sample.path))
    return digest.hexdigest()

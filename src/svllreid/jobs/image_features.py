"""The image features of stage 1: computed once for all training images, and cached in a file."""

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
from svllreid.embedding.contract import Embedder
from svllreid.files import atomic_write, file_stamp
from svllreid.jobs.embedding import embed_samples
from svllreid.models.reid import SVLLReID
from svllreid.runtime.progress import LiveReport

logger = logging.getLogger(__name__)


def image_features(
    config: Config, model: SVLLReID, data: build.TrainingData, fabric: Fabric, report: LiveReport, folder: Path
) -> Tensor:
    """The features `proj` (n, E) of the training images, on the device.

    Features that an earlier run saved in `folder` are used again if image files, transform, weights and arithmetic are
    the same.
    """
    embedder = build.build_prompt_embedder(config, model, fabric)
    file = folder / "image_features.safetensors"
    key = _key(embedder, data) if fabric.is_global_zero else ""
    features: Tensor | None = fabric.broadcast(_read(file, key) if fabric.is_global_zero else None)
    if features is None:
        text = "stage 1: image features"
        features = embed_samples(embedder, data.samples, config, fabric, report, text=text).vectors
        if fabric.is_global_zero:
            with atomic_write(file) as temporary:
                save_file({"features": features}, temporary, metadata={"key": key})
    else:
        logger.info("image features of stage 1 are taken from %s", file)
    return features.to(fabric.device)


def _read(file: Path, key: str) -> Tensor | None:
    """The cached features; None where there are none, or none with this key."""
    try:
        with safe_open(file, framework="pt") as saved:
            return saved.get_tensor("features") if (saved.metadata() or {}).get("key") == key else None
    except (OSError, SafetensorError):
        return None


def _key(embedder: Embedder, data: build.TrainingData) -> str:
    """A digest of everything that the features depend on: decoding, weights and settings, arithmetic, image files."""
    arithmetic = embedder.spec.precision, embedder.device.type
    digest = hashlib.sha256(repr((DECODING, embedder.spec.fingerprint, arithmetic)).encode())
    for sample in data.samples:
        digest.update(file_stamp(sample.path))
    return digest.hexdigest()

"""The one loop that turns batches of images into features."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from svllreid.embedding.contract import Embedder, FeatureTable
from svllreid.errors import EvaluationError
from svllreid.types import Batch


def embed(embedder: Embedder, batches: Iterable[Batch], progress: Callable[[int], None] | None = None) -> FeatureTable:
    """Embed all images and return their features, in the order of the batches.

    Args:
        embedder: the model with its settings.
        batches: the images with their rows of the side information.
        progress: called after each batch with its number of images.
    Raises: EvaluationError: features are NaN or infinite; the message has the number of the image, counted from 0.
    """
    parts, count = [], 0
    for batch in batches:
        features = embed_batch(embedder, batch)
        check_finite(features, torch.arange(count, count + len(features)), embedder)
        parts.append(features)
        count += len(features)
        if progress is not None:
            progress(len(features))
    vectors = torch.cat(parts) if parts else torch.empty(0, embedder.dim)
    return FeatureTable(vectors, torch.arange(count), embedder.spec)


def embed_batch(embedder: Embedder, batch: Batch) -> Tensor:
    """Features (B, D) of a batch, on the CPU. A batch that does not fit into a GPU's memory is embedded in halves."""
    try:
        batch = batch.to(embedder.device)
        with torch.inference_mode():
            return embedder(batch.images, batch.camids, batch.viewids).cpu()
    except torch.OutOfMemoryError:
        if len(batch.images) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(batch.images) // 2
    halves = (Batch(*(values[part] for values in batch[:4])) for part in (slice(middle), slice(middle, None)))
    return torch.cat([embed_batch(embedder, half) for half in halves])


def check_finite(features: Tensor, indices: Tensor, embedder: Embedder) -> None:
    """Refuse features (B, D) that are NaN or infinite.

    Args:
        features: of images.
        indices: (B,) the numbers of the images, for the message.
        embedder: made them.
    Raises: EvaluationError: names the first such image.
    """
    broken = (~features.isfinite().all(dim=1)).nonzero()
    if len(broken):
        raise EvaluationError(
            f"image {int(indices[broken[0, 0]])}: its features hold NaN or infinity: the weights are damaged, or their "
            f"numbers too large for precision {embedder.spec.precision}",
            ("precision",),
        )

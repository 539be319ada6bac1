"""The one loop that turns batches of images into a table of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

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
        with torch.inference_mode():  # not around the loop: reading a batch may run the caller's code
            features = embedder(*_inputs(batch.to(embedder.device))).cpu()
        broken = (~features.isfinite().all(dim=1)).nonzero()
        if len(broken):
            raise EvaluationError(
                f"image {count + int(broken[0])}: its features hold NaN or infinity: the weights are damaged, or their "
                f"numbers too large for precision {embedder.spec.precision}",
                ("precision",),
            )
        parts.append(features)
        count += len(features)
        if progress is not None:
            progress(len(features))
    vectors = torch.cat(parts) if parts else torch.empty(0, embedder.dim)
    return FeatureTable(vectors, torch.arange(count), embedder.spec)


def _inputs(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return batch.images, batch.camids, batch.viewids

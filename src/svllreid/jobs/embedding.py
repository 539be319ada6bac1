"""Features of a dataset's images: every process embeds a share of them and gets all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.fabric import Fabric

from svllreid import build
from svllreid.config import Config
from svllreid.data.loader import batches
from svllreid.embedding.contract import Embedder, FeatureTable
from svllreid.embedding.loop import embed
from svllreid.runtime.processes import own_rows, rows_of_all
from svllreid.runtime.progress import LiveReport
from svllreid.types import Sample, SideRows


def embed_samples(
    embedder: Embedder,
    samples: Sequence[Sample],
    config: Config,
    fabric: Fabric,
    report: LiveReport,
    *,
    text: str,
    side_rows: SideRows | None = None,
) -> FeatureTable:
    """A feature of each sample, in their order, the same table on every process.

    Args:
        embedder: the model with its settings.
        samples: the images; none gives an empty table.
        config: size and normalisation of the images, batch size and workers.
        fabric: device and processes.
        report: shows progress under `text`.
        side_rows: of the model, whose side information is to be added; None: without.
    Raises: ImageError: an image that cannot be read. EvaluationError: features that are not finite.
    """
    if not samples:
        return FeatureTable(torch.empty(0, embedder.dim), torch.arange(0), embedder.spec)
    share = [samples[row] for row in own_rows(len(samples))]
    loader = build.build_test_loader(config, share, fabric, side_rows)
    with report.counting(text, len(share)) as count:
        own = embed(embedder, batches(loader), count)
    vectors = rows_of_all(own.vectors, len(samples), fabric.device)
    return FeatureTable(vectors, torch.arange(len(samples)), own.spec)

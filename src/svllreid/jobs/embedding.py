"""Features of a dataset's images: every process computes a share of them and gets all."""

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
    """Embed samples and return their features in the same order; every process gets the whole table.

    Args:
        embedder: the model with its settings.
        samples: the images; without any the table is empty.
        config: size and normalisation of the images, batch size, and number of worker processes.
        fabric: device and processes.
        report: shows the progress.
        text: the label of the progress.
        side_rows: the rows of the model's side information; None where none is added.
    Raises: ImageError: an image cannot be read. EvaluationError: features are NaN or infinite.
    """
    if not samples:
        return FeatureTable(torch.empty(0, embedder.dim), torch.arange(0), embedder.spec)
    share = [samples[row] for row in own_rows(len(samples))]
    loader = build.build_test_loader(config, share, fabric, side_rows)
    with report.counting(text, len(share)) as count:
        table = embed(embedder, batches(loader), count)
    vectors = rows_of_all(table.vectors, len(samples), fabric.device)
    return FeatureTable(vectors, torch.arange(len(samples)), table.spec)

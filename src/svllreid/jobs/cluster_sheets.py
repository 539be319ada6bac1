"""Pictures of clusters and the page to look through them, which `svllreid cluster --sheets` writes."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import numpy as np

from svllreid.clustering.density import ALONE
from svllreid.clustering.doubt import Fit
from svllreid.data.images import open_image
from svllreid.runtime.progress import LiveReport
from svllreid.viz.cluster_page import ClusterCard, write_cluster_page
from svllreid.viz.cluster_sheet import draw_cluster

logger = logging.getLogger(__name__)

MOST_DRAWN = 48
_PICTURE = re.compile(r"c\d{5,}\.png")


def cluster_name(label: int) -> str:
    """The name of a cluster, its pid in the manifest: `c00000` has most images.

    >>> cluster_name(12)
    'c00012'
    """
    return f"c{label:05d}"


def write_sheets(
    folder: Path,
    manifest: Path,
    labels: np.ndarray,
    fit: Fit,
    columns: dict[str, np.ndarray],
    report: LiveReport,
) -> Path:
    """Write a picture of each cluster and the page `index.html`, the clusters with most doubt first.

    Pictures of an earlier call in the folder that this one does not write are removed.

    Args:
        folder: where they are written.
        manifest: the file that a person corrects, for the page's text.
        labels: (N,) int64 clusters, ALONE (-1) for images in none.
        fit: how the images fit their clusters.
        columns: those of a `TableBlock`.
        report: shows progress.
    Returns: the page.
    Raises: OutputError: the folder cannot be written to.
    """
    doubt, cards, unread = fit.doubt(labels), list[ClusterCard](), 0
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.searchsorted(labels[order], np.arange(len(doubt))))[1:]
    with report.counting("drawing clusters", len(doubt)) as count:
        for label, rows in enumerate(members):
            drawn = _chosen(rows, fit.silhouette)
            name, cameras = cluster_name(label), np.unique(columns["camid"][rows])
            nearest = cluster_name(int(fit.nearest[label])) if fit.nearest[label] != -1 else ""
            card = ClusterCard(
                name=name,
                picture=f"{name}.png",
                images=len(rows),
                drawn=len(drawn),
                cameras=int((cameras >= 0).sum()),
                doubt=float(doubt[label]),
                nearest=nearest,
                gap=float(fit.gap[label]),
            )
            captions = [_caption(int(columns["camid"][row]), float(fit.silhouette[row])) for row in drawn]
            images = [(Path(columns["path"][row]), text) for row, text in zip(drawn, captions, strict=True)]
            unread += draw_cluster(folder / card.picture, images, f"{name}: {len(rows)} images", open_image)
            cards.append(card)
            count(1)
    written = {card.picture for card in cards}
    for file in folder.glob("c*.png"):
        if _PICTURE.fullmatch(file.name) and file.name not in written:
            file.unlink()
    cards.sort(key=lambda card: (-card.doubt, card.name))
    page = folder / "index.html"
    shown = Path(os.path.relpath(manifest.absolute(), folder.absolute())).as_posix()
    write_cluster_page(page, f"Clusters of {len(labels)} images", shown, cards, int((labels == ALONE).sum()))
    if unread:
        logger.warning("%d images could not be read and are grey in the pictures", unread)
    return page


def _chosen(rows: np.ndarray, silhouette: np.ndarray) -> list[int]:
    """The images of a cluster that are drawn, those with most doubt first; of very many, evenly from all of them."""
    ordered = rows[np.argsort(silhouette[rows], kind="stable")]
    places = np.unique(np.linspace(0, len(ordered) - 1, min(MOST_DRAWN, len(ordered))).round().astype(int))
    return ordered[places].tolist()


def _caption(camid: int, silhouette: float) -> str:
    return f"{f'c{camid} ' if camid >= 0 else ''}{1 - silhouette:.2f}"

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
from svllreid.errors import OutputError
from svllreid.files import is_file, is_folder
from svllreid.runtime.progress import LiveReport
from svllreid.viz.cluster_page import ClusterCard, is_cluster_page, write_cluster_page
from svllreid.viz.cluster_sheet import draw_cluster

logger = logging.getLogger(__name__)

MOST_DRAWN = 48
_PAGE = "index.html"
_PICTURE = re.compile(r"c\d{5,}\.png")


def cluster_name(label: int) -> str:
    """The name of a cluster, its pid in the manifest: `c00000` has most images.

    >>> cluster_name(12)
    'c00012'
    """
    return f"c{label:05d}"


def check_sheets(folder: Path) -> None:
    """Check that a folder is free for pictures of clusters, or holds those of an earlier call.

    Raises: OutputError: it is a file, or holds a page or pictures of these names that `write_sheets` did not write.
    """
    if folder.exists() and not is_folder(folder):
        raise OutputError(f"{folder} is a file; name a folder for the pictures of clusters")
    page = folder / _PAGE
    taken = [page] if is_file(page) else [file for file in folder.glob("c*.png") if _PICTURE.fullmatch(file.name)]
    if taken and not is_cluster_page(page):
        raise OutputError(
            f"{min(taken)} would be replaced, and is no picture or page of clusters that this command wrote; name "
            "another folder"
        )


def write_sheets(
    folder: Path,
    manifest: Path,
    labels: np.ndarray,
    fit: Fit,
    columns: dict[str, np.ndarray],
    rows: np.ndarray,
    report: LiveReport,
) -> Path:
    """Write a picture of each cluster and the page `index.html`, the clusters with most doubt first.

    Pictures of an earlier call in the folder that this one does not write are removed.

    Args:
        folder: where they are written; see `check_sheets`.
        manifest: the file that a person corrects, for the page's text.
        labels: (N,) int64 clusters, ALONE (-1) for images in none.
        fit: how the images fit their clusters.
        columns: those of a `TableBlock`.
        rows: (N,) the row of each image in the manifest, for the captions.
        report: shows progress.
    Returns: the page.
    Raises: OutputError: the folder cannot be written to.
    """
    doubt, unread = fit.doubt(labels), 0
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.searchsorted(labels[order], np.arange(len(doubt))))[1:]
    drawn = [_chosen(images, fit.silhouette) for images in members]
    cards = [
        ClusterCard(
            name=cluster_name(label),
            picture=f"{cluster_name(label)}.png",
            images=len(images),
            drawn=len(drawn[label]),
            cameras=int((np.unique(columns["camid"][images]) >= 0).sum()),
            doubt=float(doubt[label]),
            nearest=cluster_name(int(fit.nearest[label])) if fit.nearest[label] != -1 else "",
            gap=float(fit.gap[label]),
        )
        for label, images in enumerate(members)
    ]
    # The page comes first: the pictures of a call that was killed are known by it as those of this command.
    page = folder / _PAGE
    shown = Path(os.path.relpath(manifest.absolute(), folder.absolute())).as_posix()
    ordered = sorted(cards, key=lambda card: (-card.doubt, card.name))
    write_cluster_page(page, f"Clusters of {len(labels)} images", shown, ordered, int((labels == ALONE).sum()))
    with report.counting("drawing clusters", len(cards)) as count:
        for card, images in zip(cards, drawn, strict=True):
            captions = [_caption(rows[i], int(columns["camid"][i]), float(fit.silhouette[i])) for i in images]
            files = [Path(path) for path in columns["path"][images].tolist()]
            unread += draw_cluster(
                folder / card.picture,
                list(zip(files, captions, strict=True)),
                f"{card.name}: {card.images} images",
                open_image,
            )
            count(1)
    written = {card.picture for card in cards}
    for file in folder.glob("c*.png"):
        if _PICTURE.fullmatch(file.name) and file.name not in written:
            file.unlink()
    if unread:
        logger.warning("%d images could not be read and are grey in the pictures", unread)
    return page


def _chosen(rows: np.ndarray, silhouette: np.ndarray) -> list[int]:
    """The images of a cluster that are drawn, those with most doubt first; of very many, evenly from all of them."""
    ordered = rows[np.argsort(silhouette[rows], kind="stable")]
    places = np.unique(np.linspace(0, len(ordered) - 1, min(MOST_DRAWN, len(ordered))).round().astype(int))
    return ordered[places].tolist()


def _caption(row: int, camid: int, silhouette: float) -> str:
    return f"row {row}\n{f'c{camid} ' if camid >= 0 else ''}{1 - silhouette:.2f}"

"""`svllreid cluster`: identities from crops without labels, written as a manifest that `svllreid train` reads."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from svllreid.clustering.agreement import agreement
from svllreid.clustering.cluster import ClusterOptions, Clusters, cluster
from svllreid.clustering.density import ALONE
from svllreid.clustering.doubt import fit_of
from svllreid.data.readers.listed_images import list_images
from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import DatasetError, ImageError, OutputError
from svllreid.evaluation.table_file import TableBlock, holds_features, read_features
from svllreid.files import UNENCODABLE, atomic_write, is_file, is_folder, user_path, write_json
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.milvus import is_gallery
from svllreid.jobs.cluster_sheets import check_sheets, cluster_name, write_sheets
from svllreid.jobs.embedding_files import columns_of
from svllreid.jobs.encoding import fitting_encoder
from svllreid.runtime.progress import LiveReport, logging_to

logger = logging.getLogger(__name__)

COLUMNS = ("path", "pid", "split", "camid", "time", "tracklet", "cluster")


@dataclass(frozen=True)
class SourceOptions:
    """How the images of a folder or a table are embedded; files of features and galleries need none of this.

    Args:
        weights: the trained model, see `Encoder.load`.
        device, precision, batch_size: see `Encoder.load`.
        skip_unreadable: leave out images that cannot be read, and count them.
        name: of a gallery, see `Gallery`.
    """

    weights: Path | None = None
    device: str = "auto"
    precision: str | None = None
    batch_size: int | None = None
    skip_unreadable: bool = False
    name: str = "crops"


def cluster_to_file(
    source: str | Path,
    output: Path,
    options: ClusterOptions,
    reading: SourceOptions = SourceOptions(),
    *,
    sheets: Path | None = None,
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Cluster images, and write a manifest of the clusters, a JSON file beside it, and sheets to look through.

    Args:
        source: see `features_of`.
        output: the .csv file to write; see `write_clusters`.
        options: of the clustering.
        reading: how images are embedded.
        sheets: a folder for a picture of each cluster and a page of all; None: none.
        fresh: replace files that are there, which may have been corrected by hand.
        console: where progress is shown; None: standard error.
    Returns: the content of the JSON file: settings, counts, and where identities are known the agreement with them.
    Raises: ReidError: anything that the user can fix.
    """
    console = console or Console(stderr=True)
    output = user_path(output)
    if output.suffix.lower() != ".csv":
        raise OutputError(f"{output}: clusters are written as .csv; give such a name")
    for file, why in ((output, ", and may have been corrected by hand"), (output.with_suffix(".json"), "")):
        if file.exists() and not fresh:
            raise OutputError(f"{file} is there already{why}; name another output, or start over", ("starting over",))
    if sheets is not None:
        check_sheets(user_path(sheets))
    with logging_to(None, console), LiveReport(console) as report:
        table, spec = features_of(source, reading, report)
        columns = table.columns
        with report.tracking("clustering") as progress:
            clusters = cluster(
                table.vectors, columns["camid"], columns["time"], columns["tracklet"], options, progress=progress
            )
        for note in _notes(clusters, columns, options):
            logger.info("%s", note)
        fit = fit_of(clusters.features, clusters.labels)
        summary = _summary(source, options, spec, clusters, columns["pid"])
        rows = write_clusters(output, clusters.labels, columns)
        write_json(output.with_suffix(".json"), summary)
        logger.info("clusters: %s, %s", output, output.with_suffix(".json"))
        if sheets is not None:
            page = write_sheets(user_path(sheets), output, clusters.labels, fit, columns, rows, report)
            logger.info("sheets: %s", page)
        return summary


def features_of(
    source: str | Path, reading: SourceOptions, report: LiveReport
) -> tuple[TableBlock, EmbeddingSpec | None]:
    """The features to cluster with what is known of their images, and the record of the model.

    Args:
        source: a file of features that `svllreid embed` wrote; a gallery, see `Gallery`, whose crops without a file
            are left out and counted; or a folder or a table of images, see `list_images`.
        reading: how images are embedded.
        report: shows progress.
    Raises: ReidError: the source cannot be read, or there is no model for images.
    """
    if is_gallery(source):
        return _stored(str(source), reading, report)
    source = user_path(source)
    if is_file(source) and holds_features(source):
        if reading.weights is not None:
            logger.info("%s holds features, so the model is not used", source)
        return read_features(source)
    if not is_file(source) and not is_folder(source):
        raise DatasetError(f"{source} does not exist; name images, a file of their features, or a gallery")
    if reading.weights is None:
        raise DatasetError(f"{source} holds images, which need a model; name one", settings=("weights",))
    return _embedded(source, reading.weights, reading, report)


def _stored(uri: str, reading: SourceOptions, report: LiveReport) -> tuple[TableBlock, EmbeddingSpec]:
    """The crops of a gallery with their features."""
    blocks = []
    with Gallery(uri, name=reading.name) as gallery, report.counting("reading", len(gallery)) as count:
        for block in gallery.table():
            blocks.append(block)
            count(len(block.vectors))
        table, spec = TableBlock.joined(blocks, gallery.spec.dim), gallery.spec
    listed = table.columns["path"] != ""
    if not listed.all():
        logger.warning("%d crops of the gallery have no file and were left out", np.count_nonzero(~listed))
    return TableBlock({name: column[listed] for name, column in table.columns.items()}, table.vectors[listed]), spec


def _embedded(
    source: Path, weights: Path, reading: SourceOptions, report: LiveReport
) -> tuple[TableBlock, EmbeddingSpec]:
    """The images of a folder or a table with their features."""
    images, notes = list_images(source)
    encoder, sie_notes = fitting_encoder(
        weights, None, reading.device, cameras=False, precision=reading.precision, batch_size=reading.batch_size
    )
    for note in (*notes, *sie_notes):
        logger.info("%s", note)
    skipped: list[ImageError] = []
    blocks = encoder.encode_stream(
        (image.path for image in images),
        camids=(image.camid for image in images),
        viewids=(image.viewid for image in images),
        on_error="skip" if reading.skip_unreadable else "raise",
        on_skip=lambda index, error: skipped.append(error),
    )
    kept, vectors = list[int](), [np.empty((0, encoder.embedder.dim), np.float32)]
    with report.counting("embedding", len(images)) as count:
        for indices, features in blocks:
            kept += indices.tolist()
            vectors.append(features)
            count(len(features))
    if skipped:
        logger.warning("%d images could not be read and were left out, such as: %s", len(skipped), skipped[0])
    return TableBlock(columns_of([images[row] for row in kept]), np.concatenate(vectors)), encoder.spec


def write_clusters(path: Path, labels: np.ndarray, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Write clusters as a manifest of training images, atomically.

    Its columns are COLUMNS. The pid is the cluster's name, which a person corrects by editing it; `cluster` is the same
    name and stays as it is. Images in no cluster come last, with both empty; `read_manifest` leaves them out. Paths are
    relative to the file. Cameras are written if all are known, since manifests have them in all rows or in none.

    Args:
        path: the .csv file.
        labels: (N,) int64 clusters, ALONE (-1) for images in none.
        columns: those of a `TableBlock`.
    Returns: (N,) int64, the row of each image in the file, as a spreadsheet counts: the header is row 1.
    Raises: OutputError: the file cannot be written.
    """
    cameras = bool((columns["camid"] >= 0).all())
    order = np.lexsort((columns["path"], labels, labels == ALONE))
    folder = path.parent.absolute()
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=UNENCODABLE) as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in order.tolist():
            name = "" if labels[row] == ALONE else cluster_name(int(labels[row]))
            moment, camid = columns["time"][row], columns["camid"][row] if cameras else ""
            time = "" if np.isnan(moment) else np.format_float_positional(moment, trim="-")
            writer.writerow(
                [_relative(columns["path"][row], folder), name, "train", camid, time, columns["tracklet"][row], name]
            )
    return np.argsort(order) + 2


def _relative(path: str, folder: Path) -> str:
    """A path as seen from a folder, with forward slashes; an absolute one where no relative path leads there."""
    file = Path(path).absolute()
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # on another drive
        return file.as_posix()


def _notes(clusters: Clusters, columns: dict[str, np.ndarray], options: ClusterOptions) -> Iterator[str]:
    """What the user should know about the clusters."""
    alone = int((clusters.labels == ALONE).sum())
    yield f"{len(clusters.labels)} images: {clusters.count} clusters, {alone} images in none"
    if clusters.tracklets:
        yield f"{clusters.tracklets} tracklets of several images, each kept together"
    if options.apart and clusters.pairs_apart:
        yield (
            f"{clusters.pairs_apart} pairs of tracklets or images were seen by one camera at one time: "
            f"{clusters.split} clusters held such a pair and were split, and {clusters.dissolved} of their parts were "
            "too small to keep; if times are too coarse to tell frames apart, --ignore-times leaves them out"
        )
    known = columns["camid"] >= 0
    if known.any() and not known.all():
        yield f"cameras are left out of the file, since {int((~known).sum())} images have none"
    missing = sum(not is_file(Path(path)) for path in columns["path"].tolist())
    if missing:
        yield (
            f"{missing} images are not where their paths lead from this folder; run this command in the folder where "
            "they were embedded, so that the manifest finds them"
        )


def _summary(
    source: str | Path, options: ClusterOptions, spec: EmbeddingSpec | None, clusters: Clusters, pids: np.ndarray
) -> dict[str, Any]:
    measured = agreement(clusters.labels, pids)
    return {
        "source": str(source),
        "settings": asdict(options),
        "embedding": None if spec is None else spec.to_dict(),
        "images": len(clusters.labels),
        "clusters": clusters.count,
        "unclustered": int((clusters.labels == ALONE).sum()),
        "tracklets": clusters.tracklets,
        "pairs_apart": clusters.pairs_apart,
        "clusters_split": clusters.split,
        "parts_dissolved": clusters.dissolved,
        "agreement": None if measured is None else measured.to_dict(),
    }

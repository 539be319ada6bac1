"""The command `svllreid cluster`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from svllreid.cli.options import BatchSize, Device, Precision, SkipUnreadable
from svllreid.cli.tables import plain_console


def cluster(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|TABLE|FEATURES|GALLERY",
            help="Images, or their features: a file that `embed` wrote, or a gallery (.db file or server).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.csv", help="The manifest to write.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="The trained model, for images.")
    ] = None,
    method: Annotated[str, typer.Option(help="dbscan or hdbscan.")] = "dbscan",
    eps: Annotated[
        float, typer.Option(help="dbscan: the Jaccard distance up to which images are near, above 0 and up to 1.")
    ] = 0.6,
    min_samples: Annotated[int, typer.Option(min=2, help="The fewest images of an identity.")] = 4,
    k1: Annotated[int, typer.Option(min=1, help="Neighbours that are tested for reciprocity.")] = 30,
    k2: Annotated[int, typer.Option(min=1, help="Neighbours over which descriptions are averaged.")] = 6,
    centre_cameras: Annotated[
        bool, typer.Option("--centre-cameras", help="Subtract each camera's mean feature.")
    ] = False,
    ignore_times: Annotated[
        bool, typer.Option("--ignore-times", help="Images of one camera at one time may be one identity.")
    ] = False,
    sheets: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw each cluster, and write a page to look through them.")
    ] = None,
    device: Device = "auto",
    precision: Precision = None,
    batch_size: BatchSize = None,
    skip_unreadable: SkipUnreadable = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace an output, with its corrections.")] = False,
    name: Annotated[
        str, typer.Option(help="Name of the gallery, if the source is one; a server can hold several.")
    ] = "crops",
) -> None:
    """Find identities in crops without labels, and write them as a manifest that `svllreid train` reads.

    The column pid has the cluster: give two clusters one pid to merge them, some images a new one to split them, and
    none to drop an image. Images in no cluster have none. `svllreid data describe manifest FILE.csv` checks the file.

    Images of one tracklet stay together, and images of one camera at one time are never one identity, where a table
    says so in the columns tracklet, camid and time. Identities of the source are not used; the clusters are compared
    with them.

    Example: `svllreid embed data/crops --weights model.pth -o crops.parquet`

    Example: `svllreid cluster crops.parquet -o clusters.csv --sheets sheets`
    """
    from svllreid.clustering.cluster import ClusterOptions
    from svllreid.jobs.clustering import SourceOptions, cluster_to_file

    options = ClusterOptions(method, eps, min_samples, k1, k2, centre_cameras, apart=not ignore_times)
    reading = SourceOptions(weights, device, precision, batch_size, skip_unreadable, name)
    _print_summary(plain_console(), cluster_to_file(source, output, options, reading, sheets=sheets, fresh=fresh))


def _print_summary(console: Console, summary: dict[str, Any]) -> None:
    """Prints the counts, and where identities are known how the clusters agree with them."""
    table = Table("measure", "value", show_header=False)
    measured = summary["agreement"]
    for name in ("images", "clusters", "unclustered"):
        table.add_row(name, str(summary[name]))
    if measured is not None:
        known = "" if measured["images"] == summary["images"] else f" (of {measured['images']} images)"
        table.add_row("identities", f"{measured['identities']}{known}")
        table.add_row("identities found", str(measured["found"]))
        table.add_row("adjusted Rand index", f"{measured['adjusted_rand_index']:.3f}")
        for name in ("precision", "recall", "f1"):
            table.add_row(f"pairs: {name}", f"{measured[name]:.3f}")
    console.print(table)

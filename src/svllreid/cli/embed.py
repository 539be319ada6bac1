"""The command `svllreid embed`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from svllreid.cli.options import BatchSize, ConfigFile, Device, Overrides, Precision, SkipUnreadable, without_option


def embed(
    source: Annotated[Path, typer.Argument(metavar="FOLDER|TABLE", help="Folder of images, or a CSV or Parquet file.")],
    weights: Annotated[Path, typer.Option("--weights", metavar="FILE", help="The trained model.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A .parquet or .npz file to write.")],
    overrides: Overrides = None,
    config_file: ConfigFile = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(metavar="N", help="Embed in N processes, one per GPU.")] = 1,
    precision: Precision = None,
    batch_size: BatchSize = None,
    cameras: Annotated[
        bool,
        typer.Option("--cameras", help="Cameras are numbered as in the training set: add what was learned of them."),
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, and replace the output.")] = False,
) -> None:
    """Turn images into features: a table with path, identity, camera and time where they are known, and the vector.

    A table needs the column path; pid, camid, viewid, time, tracklet and split may be there. A folder with train, query
    and gallery in it is read as a dataset, any other one with all folders below it. The same command continues after
    an interruption.
    `svllreid test --features FILE` ranks the rows of the splits query and gallery.

    Example: `svllreid embed data/crops --weights outputs/mine/ViT-B-16_60.pth -o crops.parquet`

    Example: `torchrun --nproc-per-node 8 -m svllreid embed crops.csv --weights model.pth -o crops.parquet`
    """
    if devices != 1:
        from svllreid.jobs.launching import launch

        raise typer.Exit(launch(devices, device, without_option(sys.argv[1:], "--devices")))
    from svllreid.config import from_tree, load_config
    from svllreid.files import user_path
    from svllreid.jobs.embedding_files import EmbedOptions, embed_to_file
    from svllreid.models.checkpoint import read_info

    config = load_config(config_file, overrides or ()) if config_file else None
    if config is None and overrides:
        info = read_info(user_path(weights))
        config = load_config(None, overrides) if info is None else from_tree(info.config, str(weights), overrides)
    options = EmbedOptions(device, precision, batch_size, cameras, skip_unreadable, fresh)
    embed_to_file(source, weights, output, options, config=config)

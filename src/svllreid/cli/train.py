"""The command `svllreid train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from svllreid.cli.options import ConfigFile, Device, Overrides, SkipUnreadable, without_option


def train(
    overrides: Overrides = None,
    config_file: ConfigFile = None,
    device: Device = "auto",
    stage: Annotated[int | None, typer.Option(min=1, max=2, help="Run only stage 1 or only stage 2.")] = None,
    stage1_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Stage-1 file that stage 2 starts from (with --stage 2).")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over in an OUTPUT_DIR that holds a run.")] = False,
    allow_config_change: Annotated[
        bool, typer.Option("--allow-config-change", help="Continue a run under another configuration.")
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    devices: Annotated[
        int,
        typer.Option(metavar="N", help="Train in N processes, one per GPU; IMS_PER_BATCH is over all of them."),
    ] = 1,
    max_steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="A trial run: at most N steps of each stage.")
    ] = None,
    limit_identities: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="A trial run: only the first N training identities.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write a trace of a few steps of each stage, for chrome://tracing.")
    ] = False,
) -> None:
    """Train both stages, evaluate, and leave checkpoints, metrics and a picture in OUTPUT_DIR.

    The same command continues an interrupted run; for a finished run it says so and stops. On several machines, start
    `torchrun --nnodes 2 --nproc-per-node 8 … -m svllreid train …` on each.

    Example: `svllreid train --config-file person/vit_svllreid.yml DATASETS.NAMES market1501 DATASETS.ROOT_DIR ~/data
    OUTPUT_DIR outputs/market`
    """
    if devices != 1:
        from svllreid.jobs.launching import launch

        raise typer.Exit(launch(devices, device, without_option(sys.argv[1:], "--devices")))
    from svllreid.config import load_config

    # Loaded before the slow imports below, so that its faults are reported at once.
    config = load_config(config_file, overrides or ())
    from svllreid.cli.tables import plain_console, print_metrics
    from svllreid.jobs.preparing import Options
    from svllreid.jobs.training import train as train_model

    options = Options(
        device,
        stage,
        stage1_weights,
        fresh,
        allow_config_change,
        skip_unreadable,
        max_steps,
        limit_identities,
        profile,
    )
    metrics = train_model(config, options)
    if metrics is not None:
        print_metrics(plain_console(), metrics)

"""The command `svllreid bench`: measures this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from svllreid.cli.options import ConfigFile, Device, Overrides
from svllreid.cli.tables import plain_console

if TYPE_CHECKING:
    from svllreid.config import Config


Whole = Annotated[
    str | None,
    typer.Option(metavar="DATASET", help="Predict a whole run on a published dataset, such as msmt17, instead."),
]


def bench(
    overrides: Overrides = None, config_file: ConfigFile = None, device: Device = "auto", whole: Whole = None
) -> None:
    """Measure images per second and memory of both stages and of testing on this machine, and suggest a batch size.

    Images and weights are random, so neither a dataset nor a download is needed. Each is measured at two batch sizes.
    With `--whole DATASET` it predicts how long both stages would take on a dataset of that size, what they wait for,
    and how much memory and disk they need.

    Example: `svllreid bench --config-file person/vit_svllreid.yml SOLVER.STAGE2.IMS_PER_BATCH 32`

    Example: `svllreid bench --whole msmt17 --config-file person/vit_svllreid.yml`
    """
    from svllreid.config import load_config

    config = load_config(config_file, overrides or ())
    if whole is None:
        _measure(config, device)
    else:
        _predict(config, whole, device)


def _predict(config: Config, dataset: str, device: str) -> None:
    from svllreid.jobs.prediction import predict

    result = predict(config, dataset, device)
    table = Table("part", "how much", "minutes", "waits for")
    table.columns[2].justify = "right"
    for part in result.parts:
        table.add_row(part.name, part.amount, f"{part.seconds / 60:.1f}", part.bound)
    console = plain_console()
    console.print(table)
    hours, minutes = divmod(round(result.seconds / 60), 60)
    memory = "unknown memory" if result.memory is None else f"{result.memory / 1e9:.1f} GB of memory"
    console.print(
        f"a whole run on a dataset of the size of {dataset}: {hours} h {minutes} min, {memory}, "
        f"{result.disk / 1e9:.1f} GB of disk",
        soft_wrap=True,
    )


def _measure(config: Config, device: str) -> None:
    from svllreid.jobs.benching import run_bench

    result = run_bench(config, device)
    table = Table("work", "batch", "images/s", "memory, GB")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result.measured:
        speed = f"{row.images_per_second:.1f}"
        memory = "not known" if row.memory is None else f"{row.memory / 1e9:.2f}"
        table.add_row(row.work, str(row.batch_size), speed, memory)
    console = plain_console()
    console.print(table)
    if result.memory is None or any(row.memory is None for row in result.measured):
        console.print("This system does not tell how much memory is used: no batch size is suggested.", soft_wrap=True)
    if result.memory is None or result.suggested is None:
        return
    console.print(
        f"stage 2: a batch of {result.suggested} should fill 80 % of {result.memory / 1e9:.1f} GB "
        f"(SOLVER.STAGE2.IMS_PER_BATCH {result.suggested})",
        soft_wrap=True,
    )

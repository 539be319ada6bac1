"""The command `svllreid bench`: measures this machine."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from svllreid.cli.options import ConfigFile, Device, Overrides


def bench(overrides: Overrides = None, config_file: ConfigFile = None, device: Device = "auto") -> None:
    """Measure images per second and memory of both stages and of testing on this machine, and suggest a batch size.

    Images and weights are random, so neither a dataset nor a download is needed. Each is measured at two batch sizes.

    Example: `svllreid bench --config-file person/vit_svllreid.yml SOLVER.STAGE2.IMS_PER_BATCH 32`
    """
    from svllreid.config import load_config
    from svllreid.jobs.benching import run_bench

    config = load_config(config_file, overrides or ())
    result = run_bench(config, device)
    table = Table("work", "batch", "images/s", "memory, GB")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result.measured:
        speed = f"{row.images_per_second:.1f}"
        memory = "not known" if row.memory is None else f"{row.memory / 1e9:.2f}"
        table.add_row(row.work, str(row.batch_size), speed, memory)
    console = Console()
    console.print(table)
    if result.memory is None or any(row.memory is None for row in result.measured):
        console.print("This system does not tell how much memory is used: no batch size is suggested.", soft_wrap=True)
    if result.memory is None or result.suggested is None:
        return
    console.print(
        f"stage 2: a batch of {result.suggested} should fill 80 % of {result.memory / 1e9:.1f} GB "
        f"(SOLVER.STAGE2.IMS_PER_BATCH {result.suggested})",
        highlight=False,
        soft_wrap=True,
    )

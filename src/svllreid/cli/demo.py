"""The command `svllreid demo`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from svllreid.cli.tables import plain_console


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where rendered_people, run and gallery are written.")
    ] = Path("outputs/demo"),
    identities: Annotated[int, typer.Option(min=8, help="Synthetic people to train, and as many others to test.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of people and training.")] = 0,
) -> None:
    """Render synthetic people, train both stages of the tiny model on the CPU, test, and show what was learned.

    It takes two minutes on a laptop and needs no download. An earlier run's folders are replaced.
    """
    from svllreid.jobs.demo import run_demo

    result = run_demo(folder, identities=identities, seed=seed)
    table = Table(title="Finding the same person in another camera")
    for column in ("features", "mAP", "rank-1"):
        table.add_column(column, justify="left" if column == "features" else "right")
    for name, metrics in result.rows.items():
        table.add_row(name, f"{100 * metrics['mAP']:.1f} %", f"{100 * metrics['rank1']:.1f} %")
    console = plain_console(soft_wrap=True)
    console.print(table)
    lines = [f"metrics: {result.metrics}", f"picture: {result.picture}"]
    if result.gallery is not None:
        lines.append(f"look at it in a browser: {shlex.join(result.gallery.command)}")
    console.print("\n".join(lines))

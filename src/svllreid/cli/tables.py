"""Tables as commands print them, and that of metrics."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table


def plain_console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A console that prints texts as they are; in others `[red]` in a name is an instruction, and `:car:` a picture.

    Args:
        stderr: print to stderr instead of stdout.
        soft_wrap: do not break lines, so that paths in them can be copied.
    """
    return Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)


def print_metrics(console: Console, metrics: dict[str, Any]) -> None:
    """Prints metrics in percent, with a row for each dataset, or for each part of a dataset with parts.

    Args:
        console: where the table is printed.
        metrics: the content of metrics.json.
    """
    from svllreid.evaluation.ranking.measures import MEASURES  # imports torch

    names = sorted(MEASURES, key=lambda name: name == "mINP")  # the measures that papers report come first
    table = Table("dataset", *(name.replace("rank", "rank-") for name in names), "queries", "gallery", caption="%")
    for column in table.columns:
        column.justify = "left" if column.header == "dataset" else "right"
    for dataset, row in _rows(metrics):
        spread = row.get("deviation", {})
        cells = [f"{100 * row[name]:.1f}" + (f" ± {100 * spread[name]:.1f}" if spread else "") for name in names]
        table.add_row(dataset, *cells, str(row["num_queries"]), str(row["num_gallery"]))
    print_whole(console, table)


def print_whole(console: Console, table: Table) -> None:
    """Prints a table without breaking lines in its cells, and whole where the output is a file."""
    for column in table.columns:
        column.no_wrap = True
    if not console.is_terminal:  # a file has no line width, so nothing need be cut off
        usual, console.width = console.width, 100_000  # a table is measured within the width
        console.width = max(usual, console.measure(table).maximum)
    console.print(table)


def as_text(value: Any) -> str:
    """A value as a table shows it; None as nothing."""
    return "" if value is None else str(value)


def time_text(time: float | None) -> str:
    """A time in UTC as a table shows it; None as nothing."""
    return "" if time is None else f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"


def _rows(metrics: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, measured in metrics.get("datasets", {metrics.get("dataset"): metrics}).items():
        if "parts" in measured:
            yield from ((f"{name} {part}", block) for part, block in measured["parts"].items())
        else:
            yield name, measured

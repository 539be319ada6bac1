"""Tables that commands print."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_metrics(console: Console, metrics: dict[str, Any]) -> None:
    """The metrics of one test, in percent."""
    table = Table(
        title=f"{metrics['dataset']}: {metrics['num_queries']} queries, {metrics['num_gallery']} gallery images"
    )
    for name in ("mAP", "rank1", "rank5", "rank10", "mINP"):
        table.add_column(name.replace("rank", "rank-"), justify="right")
    table.add_row(*(f"{100 * metrics[name]:.1f} %" for name in ("mAP", "rank1", "rank5", "rank10", "mINP")))
    console.print(table)

"""Names in tables and progress bars are printed as they are, also those that look like instructions to rich."""

import io

from rich.console import Console

from svllreid.cli.tables import plain_console, print_metrics
from svllreid.runtime.progress import LiveReport

NAME = "[red]a[/foo]:car:"
MEASURED = {"mAP": 0.5, "mINP": 0.5, "rank1": 0.5, "rank5": 0.5, "rank10": 0.5, "num_queries": 1, "num_gallery": 1}


def test_names_of_datasets(capsys):
    print_metrics(plain_console(), {"dataset": NAME, **MEASURED})
    assert NAME in capsys.readouterr().out


def test_names_beside_progress_bars():
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with LiveReport(console) as report, report.counting(NAME, 2) as count:
        count(1)
    assert "[red]a[/foo]" in console.file.getvalue()

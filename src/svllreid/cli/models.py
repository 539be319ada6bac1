"""The commands `svllreid models list` and `svllreid models get`."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer
from rich import box
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from svllreid.cli.tables import plain_console

app = typer.Typer(no_args_is_help=True, help="List and fetch published models.")


@app.command("list")
def list_models() -> None:
    """List the models that the authors of SVLL-ReID and CLIP-ReID publish, with their reported accuracy in percent."""
    from svllreid.models.download import cached
    from svllreid.models.published import catalogue

    table = Table("name", "dataset", box=box.SIMPLE_HEAD)
    table.add_column("mAP", justify="right")
    table.add_column("rank-1", justify="right")
    table.add_column("status")
    for (method, backbone), models in groupby(catalogue(), lambda model: (model.method, model.backbone)):
        table.add_section()
        table.add_row(f"{method}, {backbone}", style="bold")
        for model in models:
            status = "published" if model.drive_id else "not published"
            reported = [f"{value:.1f}" for value in model.reported] if model.reported else ["", ""]
            table.add_row(model.name, model.dataset, *reported, "in cache" if cached(model).is_file() else status)
    plain_console().print(table)


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `svllreid models list` shows it.")],
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A mirror instead of Google Drive; {id} and {name} in it are filled in."),
    ] = None,
) -> None:
    """Download a published model, check it, and print the command that tests it.

    The same command continues an interrupted download. Files are kept in the folder that the environment variable
    SVLLREID_CACHE names, else in ~/.cache/svllreid.

    Example: `svllreid models get svllreid-vit-market1501`
    """
    from svllreid.jobs.published_models import shell_command
    from svllreid.models.download import DRIVE, fetch
    from svllreid.models.published import find

    model = find(name)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=plain_console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        fetched = fetch(
            model, url=url or DRIVE, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    typer.echo(f"{fetched.path} {'holds' if fetched.new else 'is already there: it holds'} {model.expected}.")
    typer.echo("Test it with (data: the folder that holds the dataset's):")
    typer.echo(shell_command(model, fetched.path, fetched.table_rows))

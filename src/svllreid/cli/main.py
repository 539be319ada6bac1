"""The `svllreid` command: every subcommand in a file of its own, errors as one message and an exit code."""

from __future__ import annotations

import io
import re
import sys

import typer
from rich.console import Console

from svllreid.cli import bench, config, convert, data, demo, models, pretrain, test, train
from svllreid.errors import ReidError
from svllreid.files import UNENCODABLE

INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="svllreid",
    help="Image re-identification where self-supervision meets vision-language learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("train")(train.train)
app.command("test")(test.test)
app.command("demo")(demo.demo)
app.command("pretrain")(pretrain.pretrain)
app.command("bench")(bench.bench)
app.command("convert")(convert.convert)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.add_typer(models.app, name="models")


def run() -> None:
    """Run the command line: exit 0 done, 2 the user's mistake, 1 ours, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding lacks is spelled out: a table or a file name must not end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=UNENCODABLE)
    messages = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        code = app(standalone_mode=False)
    except ReidError as error:
        messages.print(f"svllreid: {error}")
        code = 2
    except Exception as error:
        # typer's own usage errors know how to show themselves.
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show()
        if re.fullmatch(r"-[\d.]", getattr(error, "option_name", "")):
            messages.print("svllreid: write a value that begins with - as KEY=VALUE, such as MODEL.SIE_COE=-1")
        code = error.exit_code
    if code == INTERRUPTED:
        messages.print("svllreid: interrupted; the same command continues")
    sys.exit(code if isinstance(code, int) else 0)

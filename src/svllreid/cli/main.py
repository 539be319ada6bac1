"""The command `svllreid` with its subcommands, each in its own file; errors become one message and an exit code."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from svllreid import __version__
from svllreid.cli import (
    bench,
    calibrate,
    cluster,
    config,
    convert,
    data,
    demo,
    embed,
    export,
    gallery,
    hub,
    models,
    pretrain,
    search,
    serve,
    test,
    train,
    verify,
)
from svllreid.errors import ReidError
from svllreid.files import UNENCODABLE

INTERRUPTED = 130  # typer's exit code for Ctrl-C
ADVICE_ON_MEMORY = (
    "lower INPUT.SIZE_TRAIN and SIZE_TEST, IMS_PER_BATCH of the stage, or MODEL.SSL_HIDDEN_DIM, or set "
    "SOLVER.STAGE2.MICRO_BATCH or MODEL.GRAD_CHECKPOINTING; `svllreid bench` measures what fits"
)

app = typer.Typer(
    name="svllreid",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    # `--config_file`, as published commands spell it; a second name of the option would cut the help at 80 columns.
    context_settings={"token_normalize_func": lambda word: "config-file" if word == "config_file" else word},
)
app.command("train")(train.train)
app.command("test")(test.test)
app.command("embed")(embed.embed)
app.command("cluster")(cluster.cluster)
app.command("search")(search.search)
app.command("calibrate")(calibrate.calibrate)
app.command("verify")(verify.verify)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("pretrain")(pretrain.pretrain)
app.command("bench")(bench.bench)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.add_typer(gallery.app, name="gallery")
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.add_typer(models.app, name="models")
app.add_typer(hub.app, name="hub")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"svllreid {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Image re-identification where self-supervision meets vision-language learning."""


def _lacks_memory(error: Exception) -> bool:
    """Whether memory ran out, on the CPU or a GPU; told by names, so that torch need not be imported."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "DefaultCPUAllocator: " in str(error)


def takes(words: list[str]) -> Callable[[str], bool]:
    """Whether the command of a command line has an option or, for a configuration key, takes such keys."""
    command = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    names = {name for parameter in command.params for name in (*parameter.opts, parameter.name)}
    takes_keys = not names.isdisjoint({"overrides", "--config-file"})
    return lambda name: name in names if name.startswith("-") else takes_keys


def run() -> None:
    """Runs the command line and exits: 0 done, 1 an error in this package, 2 a mistake of the user, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # Characters that the terminal's encoding lacks are written as escapes, instead of ending the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=UNENCODABLE)
    messages = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        code = app(standalone_mode=False)
    except ReidError as error:
        from svllreid.config.hints import with_keys  # imports torch, which --help does without

        messages.print(f"svllreid: {with_keys(error, takes(sys.argv[1:]))}")
        code = 2
    except Exception as error:
        if _lacks_memory(error):
            reason = str(error).partition("\n")[0] or type(error).__name__
            messages.print(f"svllreid: out of memory ({reason}); {ADVICE_ON_MEMORY}")
            sys.exit(2)
        # typer's own usage errors have these two and print themselves.
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show()
        if re.fullmatch(r"-[\d.]", getattr(error, "option_name", "")):
            messages.print("svllreid: write a value that begins with - as KEY=VALUE, such as MODEL.SIE_COE=-1")
        code = error.exit_code
    if code == INTERRUPTED:
        messages.print("svllreid: interrupted; the same command continues")
    sys.exit(code if isinstance(code, int) else 0)

"""The commands `svllreid config show` and `svllreid config keys`."""

from __future__ import annotations

import json

import typer
from rich.table import Table

from svllreid.cli.options import ConfigFile, Overrides
from svllreid.cli.tables import plain_console

app = typer.Typer(no_args_is_help=True, help="Show configurations and explain their keys.")


@app.command()
def show(overrides: Overrides = None, config_file: ConfigFile = None) -> None:
    """Print the whole configuration that a file and overrides resolve to, as YAML."""
    from svllreid.config import dump_tree, load_config

    typer.echo(dump_tree(load_config(config_file, overrides or ()).to_yaml_tree()), nl=False)


@app.command()
def keys() -> None:
    """List every key with its default and meaning."""
    from svllreid.config import known_keys

    rows = [(key, _as_typed(field.default), " ".join(field.description.split())) for key, field in known_keys()]
    table = Table()
    table.add_column("key", no_wrap=True, min_width=max(len(key) for key, _, _ in rows))  # never cut: keys are copied
    table.add_column("default", overflow="fold", max_width=12)
    table.add_column("meaning", overflow="fold")
    for row in rows:
        table.add_row(*row)
    plain_console().print(table)


def _as_typed(value: object) -> str:
    """A value as files and command lines spell it: true, null, [12, 12]."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_typed, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)

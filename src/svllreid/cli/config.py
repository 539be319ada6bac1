"""The commands `svllreid config show` and `svllreid config keys`."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from svllreid.cli.options import ConfigFile, Overrides

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

    table = Table("key", "default", "meaning")
    for key, field in known_keys():
        table.add_row(key, str(field.default), field.description)
    Console().print(table)

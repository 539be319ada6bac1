"""svllreid data"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Make and inspect datasets.")


@app.callback()
def data() -> None:
    """Make and inspect datasets."""


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the dataset is written; must not hold one yet.")],
    identities: Annotated[int, typer.Option(min=2, help="People to train, and as many others to test.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    cameras: Annotated[int, typer.Option(min=2, help="Cameras that see everyone.")] = 4,
) -> None:
    """Render synthetic people seen by several cameras, in Market-1501's layout.

    Example: `svllreid data synth data/synthetic --identities 32 --seed 0`
    """
    from svllreid.data.synthetic import synthesize

    root = synthesize(folder, identities=identities, seed=seed, cameras=cameras)
    Console().print(f"{root}: {identities} people to train, {identities} others to test", markup=False)

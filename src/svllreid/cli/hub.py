"""The command `svllreid hub push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Share models on the Hugging Face hub.")


@app.callback()
def hub() -> None:
    """Share models on the Hugging Face hub."""


@app.command()
def push(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="An existing repository on the hub: org/name.")],
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="A checkpoint, with its .json file beside it.")],
    new_card: Annotated[
        bool, typer.Option("--new-card", help="Replace the repository's README.md by a new model card.")
    ] = False,
) -> None:
    """Upload a trained model: weights as safetensors, its .json file, metrics.json if of these weights, and a card.

    The token is that of the environment variable HF_TOKEN, or of `hf auth login`. Folders of this machine and names of
    identities are not uploaded. The card, README.md, is a draft: fill in what it marks, such as the licence.

    Example: `svllreid hub push my-org/people outputs/people/tiny_10.pth`
    """
    from svllreid.jobs.hub import push_model

    pushed = push_model(repo, weights, new_card=new_card)
    for note in pushed.notes:
        typer.echo(note)
    typer.echo(f"{', '.join(pushed.files)}: {pushed.address}")
    typer.echo(f'Load it with: svllreid.Encoder.load("hf://{repo}")')

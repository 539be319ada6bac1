"""The command `svllreid pretrain`: trains the tiny CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from svllreid.cli.options import Device
from svllreid.cli.tables import plain_console
from svllreid.files import user_path


def pretrain(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Receives images, state, weights and scores.")] = Path(
        "outputs/tiny_clip"
    ),
    seed: Annotated[int, typer.Option(min=0, max=999, help="Seed of people, weights and batches.")] = 0,
    sites: Annotated[
        int | None, typer.Option(min=1, help="Sites with six cameras and 50 people each.", show_default="400")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the people.", show_default="18")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="People in a batch, whose captions are told apart.", show_default="64")
    ] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Learning rate of AdamW.", show_default="0.0006")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes that render.")] = 2,
    device: Device = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over; rendered images are kept.")] = False,
) -> None:
    """Train the tiny CLIP from scratch: rendered people, generated descriptions, CLIP's contrastive loss.

    Without options, this is the recipe of the weights that come with the package. Images are rendered once and used
    again. The same command continues an interrupted run. Use the result with MODEL.NAME tiny MODEL.PRETRAINED FILE.

    Example: `svllreid pretrain outputs/tiny_clip --workers 2`
    """
    from svllreid.rendered.pretraining import WEIGHTS
    from svllreid.rendered.pretraining import pretrain as pretrain_model
    from svllreid.rendered.recipe import Recipe

    options: dict[str, Any] = {"sites": sites, "epochs": epochs, "batch_size": batch_size, "lr": lr}
    recipe = Recipe(seed=seed, **{name: value for name, value in options.items() if value is not None})
    scores = pretrain_model(recipe, user_path(folder), device=device, workers=workers, fresh=fresh)
    table = Table("rendered people nothing was trained on", "score", "chance")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row(
        "image to text among 100, full descriptions, rank-1", f"{100 * scores['retrieval_full']:.1f} %", "1.0 %"
    )
    table.add_row("the same, attributes left out", f"{100 * scores['retrieval_wordings']:.1f} %", "1.0 %")
    for name, result in scores["probes"].items():
        table.add_row(f"prompt for the {name}", f"{100 * result['accuracy']:.1f} %", f"{100 * result['chance']:.1f} %")
    table.add_row("same person in another camera, mAP", f"{100 * scores['reid_mAP']:.1f} %", "")
    console = plain_console(soft_wrap=True)
    console.print(table)
    console.print(f"weights: {folder / WEIGHTS}")

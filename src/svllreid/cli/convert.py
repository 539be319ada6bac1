"""The command `svllreid convert`: weights from one file format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svllreid.cli.options import ConfigFile, Overrides
from svllreid.files import user_path


def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A file or folder of weights, or openai or another open_clip tag."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help=".pth, .pt or .safetensors.")],
    overrides: Overrides = None,
    config_file: ConfigFile = None,
) -> None:
    """Write weights as a file: ReID checkpoints in the published layout, CLIP's weights in OpenAI's.

    SOURCE is a file, folder or tag, as for MODEL.PRETRAINED; a tag belongs to MODEL.NAME and is downloaded. What the
    weights do not contain is written to a .json file beside FILE: keep the two together.

    Examples:

    `svllreid convert outputs/market/ViT-B-16_60.pth -o ViT-B-16_60.safetensors`

    `svllreid convert clip-vit-large-patch14 -o ViT-L-14.safetensors`

    `svllreid convert openai -o RN50.pt MODEL.NAME RN50`
    """
    from svllreid.config import load_config
    from svllreid.models.convert import convert as write

    written = write(source, user_path(output), load_config(config_file, overrides or ()).model.name)
    typer.echo(f"{output}: {written}")

"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config-file",
        metavar="FILE",
        help="YAML file; person/vit_svllreid.yml and others of this package are found from any folder.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY VALUE]...",
        help="Configuration keys and values, KEY VALUE or KEY=VALUE; `svllreid config keys` lists them.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="32, tf32, 16-mixed or bf16-mixed; auto is 16-mixed on CUDA, else 32.")
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Images at once; 64, on a GPU 256.")]
SkipUnreadable = Annotated[
    bool,
    typer.Option("--skip-unreadable", help="Leave out and count images that cannot be read, instead of stopping."),
]


def without_option(words: list[str], name: str) -> list[str]:
    """The words of a command line without an option and its value.

    >>> without_option(["train", "--devices", "2", "--fresh"], "--devices")
    ['train', '--fresh']
    """
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith(f"{name}=") and word != name:
            kept.append(word)
        skip = word == name
    return kept

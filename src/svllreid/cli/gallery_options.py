"""The options that commands on a gallery share, and what they say: the gallery, its model, conditions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from svllreid.gallery.conditions import Conditions
    from svllreid.jobs.gallery import GalleryOptions

Uri = Annotated[
    str,
    typer.Option(
        "--gallery",
        metavar="URI",
        help="A file that ends in .db, or a Milvus server such as http://localhost:19530; its token is read from the "
        "environment variable MILVUS_TOKEN.",
    ),
]
Weights = Annotated[Path, typer.Option("--weights", metavar="FILE", help="The trained model.")]
AnyWeights = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="The trained model; not needed for features.")
]
Name = Annotated[str, typer.Option("--name", help="Of the gallery; a server can hold several.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another process has the file open.")]
Camera = Annotated[
    list[int] | None, typer.Option("--camera", metavar="N", help="Only this camera, from 0; may be repeated.")
]
NotCamera = Annotated[
    list[int] | None, typer.Option("--not-camera", metavar="N", help="Not this camera, from 0; may be repeated.")
]
Tag = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TEXT", help="Only crops with this tag; of several, with all.")
]
Pid = Annotated[
    list[str] | None,
    typer.Option("--pid", metavar="ID", help="Only this identity; may be repeated. '' are crops without one."),
]
After = Annotated[
    str | None, typer.Option(metavar="TIME", help="Taken then or later: 2026-05-01T12:30+02:00, or seconds since 1970.")
]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Taken before then.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def gallery_options(
    uri: str,
    name: str,
    wait: bool,
    weights: Path | None = None,
    config_file: Path | None = None,
    device: str = "auto",
) -> GalleryOptions:
    """The gallery and the model that the options say."""
    from svllreid.config import load_config
    from svllreid.jobs.gallery import GalleryOptions

    config = load_config(config_file) if config_file else None
    return GalleryOptions(uri, weights, name, wait, config, device)


def conditions(
    camera: list[int] | None,
    not_camera: list[int] | None,
    after: str | None,
    before: str | None,
    tag: list[str] | None,
    pid: list[str] | None,
) -> Conditions:
    """The conditions that the options say."""
    from svllreid.gallery.conditions import search_conditions

    return search_conditions(camera, not_camera, after, before, tag or (), pid or None)

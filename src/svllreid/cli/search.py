"""The command `svllreid search`."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from svllreid.cli.gallery_options import (
    After,
    AnyWeights,
    Before,
    Camera,
    Json,
    Name,
    NotCamera,
    Pid,
    Tag,
    Uri,
    Wait,
    conditions,
    gallery_options,
)
from svllreid.cli.options import ConfigFile, Device
from svllreid.cli.tables import as_text, plain_console, print_whole, time_text

if TYPE_CHECKING:
    from svllreid.jobs.searching import Answer


class Combine(StrEnum):
    """What becomes of several images of one query."""

    mean = "mean"
    best = "best"


class GroupBy(StrEnum):
    """Of what the hits are the first."""

    pid = "pid"
    tracklet = "tracklet"


def search(
    uri: Uri,
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="An image of a person or vehicle, or several of the same."),
    ] = None,
    weights: AnyWeights = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="TEXT", help="Search by words instead; may be repeated.")
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|TAG",
            help="CLIP's weights that the model began with, if MODEL.PRETRAINED is not there any more.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of hits.")] = 10,
    camera: Camera = None,
    not_camera: NotCamera = None,
    other_cameras: Annotated[
        bool, typer.Option("--other-cameras", help="Leave out the camera of the query, which _c3 in its name tells.")
    ] = False,
    after: After = None,
    before: Before = None,
    tag: Tag = None,
    pid: Pid = None,
    each: Annotated[bool, typer.Option("--each", help="The images are different queries.")] = False,
    combine: Annotated[
        Combine,
        typer.Option(help="Several images: search with their mean, or by the nearest of them."),
    ] = Combine.mean,
    group_by: Annotated[
        GroupBy | None,
        typer.Option(help="A hit for each identity, or tracklet: its first crop."),
    ] = None,
    gap: Annotated[float, typer.Option(help="Seconds between images of a tracklet that has no name.")] = 10.0,
    rerank: Annotated[bool, typer.Option("--rerank", help="Re-rank the nearest crops (k-reciprocal).")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Only crops at most so far away; see also --calibration.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of `svllreid calibrate`: gives probabilities, and a threshold."),
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="With --calibration: the threshold of this rate, such as 0.001."),
    ] = None,
    as_json: Json = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the query and its hits.")] = None,
    name: Name = "crops",
    config_file: ConfigFile = None,
    device: Device = "auto",
    wait: Wait = False,
) -> None:
    """Find the crops of a gallery that are nearest to a person or vehicle.

    Several images are one query, unless --each says otherwise. Distances are Euclidean; smaller is nearer. With a
    calibration the answer may be that nobody in the gallery is near enough. Cameras are counted from 0.

    Example: `svllreid search query.jpg --gallery people.db --weights outputs/people/tiny_10.pth -k 5`

    Example: `svllreid search --text "a person in a red coat" --gallery people.db --weights outputs/people/tiny_10.pth`
    """
    from svllreid.errors import GalleryError
    from svllreid.evaluation.ranking.rerank import RerankOptions
    from svllreid.gallery.searching import SearchOptions
    from svllreid.jobs.searching import Query
    from svllreid.jobs.searching import search as search_gallery

    if far is not None and (calibration is None or threshold is not None):
        raise GalleryError("--far chooses the threshold of a --calibration; give that, and no --threshold")
    if clip is not None and not text:
        raise GalleryError("--clip names weights for a search by words; describe somebody with --text")
    if bool(images) == bool(text):
        raise GalleryError(
            "nothing to search for; name images, or describe somebody with --text"
            if not text
            else "images and words are searched for apart; give one of them"
        )
    queries = [Query(text=words) for words in text or ()]
    queries += [Query((image,)) for image in images or ()] if each else [Query(tuple(images))] if images else []
    answers = search_gallery(
        replace(gallery_options(uri, name, wait, weights, config_file, device), clip=clip),
        queries,
        SearchOptions(
            k, combine.value, group_by.value if group_by else None, gap, RerankOptions() if rerank else None, threshold
        ),
        conditions(camera, not_camera, after, before, tag, pid),
        other_cameras=other_cameras,
        calibration=calibration,
        false_accept_rate=far,
        picture=picture,
    )
    if as_json:
        content = [answer.to_dict() for answer in answers]
        typer.echo(json.dumps(content if each or len(content) > 1 else content[0], ensure_ascii=False, indent=1))
        return
    if rerank:
        typer.echo("re-ranked: the order is not that of the distances", err=True)
    for answer in answers:
        _print(answer)
    if picture is not None:
        typer.echo(f"picture: {picture}")


def _print(answer: Answer) -> None:
    typer.echo(answer.query.text or ", ".join(map(str, answer.query.images)))
    if answer.note:
        typer.echo(f"note: {answer.note}", err=True)
    if not answer.hits and answer.compared == 0:
        typer.echo("no crop of the gallery meets the conditions, so nobody was compared")
        return
    if not answer.hits:
        limit = "" if answer.threshold is None else f" within distance {answer.threshold:.4f}"
        typer.echo(f"nobody in the gallery{limit}")
        return
    if answer.false_hits is not None:
        typer.echo(
            f"within distance {answer.threshold:.4f}: by chance {answer.false_hits:.2g} of the {answer.compared} crops "
            f"compared (false-accept rate {answer.false_accept_rate:g})"
        )
    known = any(hit.probability is not None for hit in answer.hits)
    table = Table("", "distance", *(["probability"] if known else []), "identity", "camera", "time (UTC)", "path")
    table.box = box.SIMPLE_HEAD
    for place, hit in enumerate(answer.hits, 1):
        probability = [] if not known or hit.probability is None else [f"{hit.probability:.3f}"]
        camera = "" if hit.camid < 0 else str(hit.camid)
        cells = (as_text(hit.pid), camera, time_text(hit.time), hit.path or hit.id[:12])
        table.add_row(str(place), f"{hit.distance:.4f}", *probability, *cells)
    print_whole(plain_console(), table)

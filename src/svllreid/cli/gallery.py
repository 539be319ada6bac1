"""The commands `svllreid gallery`: create, add, list, stats, remove, export, migrate, compact."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

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
    Weights,
    conditions,
    gallery_options,
)
from svllreid.cli.options import ConfigFile, Device, SkipUnreadable
from svllreid.cli.tables import as_text, plain_console, print_whole, time_text

app = typer.Typer(no_args_is_help=True, help="Keep crops in a gallery, to search them.")


@app.callback()
def gallery() -> None:
    """Keep crops in a gallery, to search them."""


@app.command()
def create(
    uri: Uri,
    weights: Weights,
    index: Annotated[
        str, typer.Option(help="FLAT searches exactly; HNSW, IVF_FLAT and IVF_SQ8 faster, and not quite exactly.")
    ] = "FLAT",
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Keep a small picture of each crop.")] = False,
    thumbnail_folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where; without it beside the file, people.thumbnails of people.db."),
    ] = None,
    shards: Annotated[int, typer.Option(min=1, max=16, help="Of a server: parts that its nodes share.")] = 1,
    name: Name = "crops",
    config_file: ConfigFile = None,
    device: Device = "auto",
    wait: Wait = False,
) -> None:
    """Make an empty gallery for the features of a model.

    Example: `svllreid gallery create --gallery people.db --weights outputs/people/tiny_10.pth`
    """
    from svllreid.jobs import gallery as jobs

    made = jobs.create(
        gallery_options(uri, name, wait, weights, config_file, device),
        index=index,
        thumbnails=thumbnails,
        thumbnail_folder=thumbnail_folder,
        shards=shards,
    )
    kept = f", thumbnails in {made.thumbnails.folder}" if made.thumbnails is not None else ""
    typer.echo(f"{uri}: an empty gallery for features of {made.spec.dim} numbers, index {made.record.index}{kept}")


@app.command()
def add(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|TABLE|FEATURES", help="Images, a table of them, or `svllreid embed`'s.")
    ],
    uri: Uri,
    weights: AnyWeights = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Given to all; may be repeated.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Replace the labels of images that are there, as the source has them.")
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    name: Name = "crops",
    config_file: ConfigFile = None,
    device: Device = "auto",
    wait: Wait = False,
) -> None:
    """Embed images and store them with identity, camera, time, tracklet and tags, where these are known.

    An image that is there already, under any name, is not stored again: the same command can be repeated, also after an
    interruption. A table needs the column path; pid, camid, time (seconds since 1970 or ISO 8601), tracklet and tags
    (a;b) may be there. Of a folder, `_c3` in a file's name is camera 2, and `_t1777638600` the time.

    Example: `svllreid gallery add data/crops --gallery people.db --weights outputs/people/tiny_10.pth --tag entrance`
    """
    from svllreid.jobs import gallery as jobs

    options = gallery_options(uri, name, wait, weights, config_file, device)
    report = jobs.add(options, source, tags=tuple(tag or ()), update=update, skip_unreadable=skip_unreadable)
    parts = [f"{report.added} crops added", f"{report.present} were there"]
    parts += [f"{report.updated} of them got new labels"] if report.updated else []
    parts += [f"{report.differing} of them with other labels, which --update replaces"] if report.differing else []
    parts += [f"{report.skipped} could not be read"] if report.skipped else []
    typer.echo(f"{uri}: {', '.join(parts)}")


@app.command("list")
def list_crops(
    uri: Uri,
    camera: Camera = None,
    not_camera: NotCamera = None,
    after: After = None,
    before: Before = None,
    tag: Tag = None,
    pid: Pid = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: Json = False,
    name: Name = "crops",
    wait: Wait = False,
) -> None:
    """List crops with what is known of them.

    Example: `svllreid gallery list --gallery people.db --camera 2 --after 2026-05-01`
    """
    from itertools import islice

    from svllreid.jobs import gallery as jobs

    where = conditions(camera, not_camera, after, before, tag, pid)
    with jobs.opened(gallery_options(uri, name, wait)) as opened:
        total = opened.store.count(where)
        crops = list(islice(opened.crops(where), limit))
    if not crops and not as_json:
        typer.echo("no crop meets the conditions")
        return
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(crop) for crop in crops], ensure_ascii=False, indent=1))
        return
    table = Table("identity", "camera", "time (UTC)", "tracklet", "tags", "path", box=box.SIMPLE_HEAD)
    for crop in crops:
        camera_text = "" if crop.camid < 0 else str(crop.camid)
        cells = (as_text(crop.pid), camera_text, time_text(crop.time), crop.tracklet, "; ".join(crop.tags))
        table.add_row(*cells, crop.path or crop.id[:12])
    print_whole(plain_console(), table)
    if total > len(crops):
        typer.echo(f"{len(crops)} of {total} crops; --limit shows more")


@app.command()
def stats(uri: Uri, as_json: Json = False, name: Name = "crops", wait: Wait = False) -> None:
    """Count crops, identities, cameras and tags, and say which model the gallery is for.

    Example: `svllreid gallery stats --gallery people.db`
    """
    from svllreid.jobs import gallery as jobs

    with jobs.opened(gallery_options(uri, name, wait)) as opened:
        counted = opened.stats()
    if as_json:
        content = {**dataclasses.asdict(counted), "spec": counted.spec.to_dict()}
        typer.echo(json.dumps(content, ensure_ascii=False, indent=1))
        return
    table = Table.grid(padding=(0, 2))
    cameras = ", ".join(f"{'unknown' if camid < 0 else camid}: {count}" for camid, count in counted.cameras.items())
    rows: dict[str, Any] = {
        "crops": counted.crops,
        "identities": f"{counted.identities}, and {counted.unidentified} crops without one",
        "crops by camera": cameras,
        "crops by tag": ", ".join(f"{tag}: {count}" for tag, count in counted.tags.items()),
        "time": "" if counted.first is None else f"{time_text(counted.first)} to {time_text(counted.last)} UTC",
        "model": f"{counted.spec.fingerprint}, {counted.spec.dim} numbers a crop",
        "index": counted.index,
        "thumbnails": counted.thumbnails or "",
        "on disk": "" if counted.bytes is None else f"{counted.bytes / 1e6:.1f} MB",
    }
    for label, value in rows.items():
        if value != "":
            table.add_row(label, str(value))
    print_whole(plain_console(), table)


@app.command()
def remove(
    uri: Uri,
    path: Annotated[
        list[Path] | None, typer.Option("--path", metavar="FILE", help="The crop of this file; may be repeated.")
    ] = None,
    pid: Pid = None,
    camera: Camera = None,
    tag: Tag = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Taken longer ago: 30d, 12h, 90m; without a time, added longer ago."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many crops it would be.")] = False,
    name: Name = "crops",
    wait: Wait = False,
) -> None:
    """Remove the crops that meet all of the conditions, with their thumbnails; image files stay.

    No search finds them any more. Their features stay in a gallery's file until `svllreid gallery compact`.

    Example: `svllreid gallery remove --gallery people.db --older-than 30d --dry-run`
    """
    from svllreid.jobs import gallery as jobs

    with jobs.opened(gallery_options(uri, name, wait)) as opened:
        count = opened.remove(
            path=path or None, pid=pid or None, camid=camera or None, tag=tag, older_than=older_than, dry_run=dry_run
        )
        left = len(opened)
    if not count:
        typer.echo(f"{uri}: no crop meets these conditions, so none was removed; {left} are there")
        return
    typer.echo(f"{uri}: {count} crops {'would be' if dry_run else 'were'} removed; {left} are there")


@app.command()
def export(
    uri: Uri,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A .parquet or .npz file to write.")],
    camera: Camera = None,
    not_camera: NotCamera = None,
    after: After = None,
    before: Before = None,
    tag: Tag = None,
    pid: Pid = None,
    name: Name = "crops",
    wait: Wait = False,
) -> None:
    """Write crops with their features to a table, as `svllreid embed` does.

    Example: `svllreid gallery export --gallery people.db -o people.parquet`
    """
    from svllreid.jobs import gallery as jobs

    where = conditions(camera, not_camera, after, before, tag, pid)
    count = jobs.export(gallery_options(uri, name, wait), output, where)
    typer.echo(f"{output}: {count} crops")


@app.command()
def migrate(
    uri: Uri,
    weights: Weights,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Leave out crops whose file is missing or has changed.")
    ] = False,
    name: Name = "crops",
    config_file: ConfigFile = None,
    device: Device = "auto",
    wait: Wait = False,
) -> None:
    """Embed all crops again with another model, from their files; the gallery serves as it was until that is done.

    Example: `svllreid gallery migrate --gallery people.db --weights outputs/new/ViT-B-16_60.pth`
    """
    from svllreid.jobs import gallery as jobs

    left_out = jobs.migrate(gallery_options(uri, name, wait, weights, config_file, device), drop_missing=drop_missing)
    typer.echo(f"{uri}: all crops have features of {weights} now" + (f"; {left_out} left out" if left_out else ""))


@app.command()
def compact(uri: Uri, name: Name = "crops", wait: Wait = False) -> None:
    """Give back the room of removed crops, whose features are then in no file of the gallery any more.

    Example: `svllreid gallery compact --gallery people.db`
    """
    from svllreid.jobs import gallery as jobs

    strays = jobs.compact(gallery_options(uri, name, wait))
    typer.echo(f"{uri}: written anew" + (f"; {strays} thumbnails of removed crops deleted" if strays else ""))

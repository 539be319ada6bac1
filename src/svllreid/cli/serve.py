"""The command `svllreid serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svllreid.cli.gallery_options import Name, Uri, Wait, Weights, gallery_options
from svllreid.cli.options import ConfigFile, Device


def serve(
    uri: Uri,
    weights: Weights,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of `svllreid calibrate`: gives probabilities, and decides.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Any but this machine's own needs a token in SVLLREID_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    tls_certificate: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="For https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="Its key.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Added pictures, changes and queries; without it beside the file, FILE.web."),
    ] = None,
    server_name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Answer browsers that ask for this name; may be repeated.")
    ] = None,
    proxy: Annotated[str, typer.Option(metavar="ADDRESS", help="Of a reverse proxy that says who the client is.")] = "",
    rate: Annotated[float, typer.Option(min=0, help="Requests a second of one client; 0: any number.")] = 50,
    burst: Annotated[float, typer.Option(min=1, help="Requests that one client may make at once.")] = 500,
    file_mib: Annotated[int, typer.Option("--file-mib", min=1, help="MiB of one picture.")] = 20,
    request_mib: Annotated[int, typer.Option("--request-mib", min=1, help="MiB of one request.")] = 64,
    megapixels: Annotated[int, typer.Option(min=1, max=89, help="Pixels of one picture.")] = 40,
    query_hours: Annotated[float, typer.Option(min=0.01, help="Hours after which a query is forgotten.")] = 24,
    name: Name = "crops",
    config_file: ConfigFile = None,
    device: Device = "auto",
    wait: Wait = False,
) -> None:
    """Serve a page to search a gallery and to put its identities in order, and a JSON API.

    It is reached from this machine alone, unless --host says otherwise. Ctrl-C ends it; what runs is finished,
    unless Ctrl-C is pressed again.

    Example: `svllreid serve --gallery people.db --weights outputs/people/tiny_10.pth`
    """
    from svllreid.web.libraries import check_libraries

    check_libraries()
    from svllreid.web.running import ServeOptions
    from svllreid.web.running import serve as serve_gallery
    from svllreid.web.service.records import Limits
    from svllreid.web.service.service import Settings

    limits = Limits(file_mib << 20, request_mib << 20, megapixels * 1_000_000)
    names, settings = tuple(server_name or ()), Settings(limits, query_hours * 3600)
    options = ServeOptions(host, port, tls_certificate, tls_key, folder, names, proxy, rate, burst, settings=settings)
    gallery = gallery_options(uri, name, wait, weights, config_file, device)
    try:
        serve_gallery(
            gallery,
            options,
            calibration,
            started=lambda address: typer.echo(f"{uri}: open {address} in a browser; Ctrl-C ends the server"),
        )
    except KeyboardInterrupt:  # the way to end it
        typer.echo("stopped")

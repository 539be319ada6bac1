"""A server from start to end: the checks, the gallery, the model, and uvicorn."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import re
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from rich.console import Console

from svllreid import build
from svllreid.calibration.calibration import Calibration
from svllreid.errors import ReidError
from svllreid.files import is_file, user_path
from svllreid.gallery.gallery import Gallery
from svllreid.jobs.gallery import GalleryOptions
from svllreid.runtime.progress import logging_to
from svllreid.web.access.rates import RateLimit
from svllreid.web.access.sessions import LEAST_TOKEN, Guard
from svllreid.web.app import create_app
from svllreid.web.errors import ServeError
from svllreid.web.metrics import Metrics
from svllreid.web.service.batching import OneAtATime
from svllreid.web.service.folder import StateFolder, gallery_identity, state_root
from svllreid.web.service.searches import Words
from svllreid.web.service.service import Service, Settings

logger = logging.getLogger(__name__)

TOKEN = "SVLLREID_TOKEN"
"""The environment variable with the token that clients have to give."""
_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:]+\]", re.ASCII | re.I)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")


@dataclass(frozen=True)
class ServeOptions:
    """How a server listens.

    Args:
        host, port: the address; port 0 takes a free one.
        certificate, key: files for TLS; both or none.
        folder: where the server keeps its state; None: beside the gallery.
        names: the names under which browsers may reach it; empty: any with a token, those of this machine without.
        proxy: the address of a reverse proxy whose X-Forwarded-For and X-Forwarded-Proto are believed; empty: none.
        rate, burst: requests that a client may make a second, and at once; rate 0 switches the limit off.
        most_requests: requests that are handled at the same time.
        settings: how the service behaves.
    Raises: ServeError: a name, an address or a number that cannot be used.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    folder: Path | None = None
    names: tuple[str, ...] = ()
    proxy: str = ""
    rate: float = 50.0
    burst: float = 500.0
    most_requests: int = 200
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        for name in self.names:
            if not _NAME.fullmatch(name):
                raise ServeError(
                    f"{name!r} is no name of a server; give it without scheme and port, as reid.example.org"
                )
        try:
            for address in filter(None, self.proxy.split(",")):
                ipaddress.ip_network(address.strip(), strict=False)
        except ValueError:
            raise ServeError(f"{self.proxy!r} is no address of a proxy; give its IP address, as 127.0.0.1") from None
        for what, number in (
            ("rate", self.rate),
            ("burst", self.burst),
            ("time that queries are kept", self.settings.query_seconds),
        ):
            if not math.isfinite(number):
                raise ServeError(f"the {what} is {number}; give a number")


def serve(
    gallery: GalleryOptions,
    options: ServeOptions,
    calibration: Path | None = None,
    *,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve a gallery until the process is told to end; what runs then is finished.

    Args:
        gallery: which gallery, and which model.
        options: how the server listens.
        calibration: a file that `svllreid calibrate` wrote.
        started: called with the address before requests are answered.
    Raises: ReidError: anything that the user can fix.
    """
    # The gallery's connection is renewed after idle minutes, which gRPC would print as an error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    token = os.environ.get(TOKEN, "")
    check_token(options.host, token)
    tls = _tls(options)
    with logging_to(None, Console(stderr=True)):
        listening = _listen(options.host, options.port)
        try:
            root, metrics = state_root(gallery.uri, options.folder).absolute(), Metrics()
            service = open_service(gallery, root, calibration, options.settings, metrics.batch)
            guard = Guard(token, service.folder.key(), RateLimit(options.rate, options.burst))
        except BaseException:
            listening.close()
            raise
        if service.journal.repaired:
            logger.info("%d changes that were not finished before were carried out", service.journal.repaired)
        app = create_app(
            service, guard, metrics, hosts=allowed_names(options.names, token), most_requests=options.most_requests
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # it would show addresses with names and words
            server_header=False,
            proxy_headers=bool(options.proxy),
            forwarded_allow_ips=options.proxy or None,
            timeout_graceful_shutdown=30,
            **tls,
        )
        host, port = listening.getsockname()[:2]
        started(f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/")
        Server(config).run(sockets=[listening])


class Server(uvicorn.Server):
    """Finishes what runs when it is told to end, and ends at once where Ctrl-C is pressed again meanwhile."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn.Server, which would log a traceback of every request that runs."""
        if self.should_exit and sig == signal.SIGINT:
            logger.warning("ended without finishing what ran; changes and pictures that were accepted are kept")
            os._exit(130)  # as a kill, which loses nothing that was acknowledged
        super().handle_exit(sig, frame)


def open_service(
    options: GalleryOptions,
    root: Path,
    calibration: Path | None = None,
    settings: Settings | None = None,
    observe: Callable[[int], None] = lambda size: None,
) -> Service:
    """The service of a gallery, which must be there, with its model.

    Args:
        options: the gallery and the model.
        root: the folder where the server keeps its state; it is made when the gallery and the model are there.
        calibration: a file that `svllreid calibrate` wrote.
        settings, observe: see `Service`.
    Raises: ReidError: anything that the user can fix.
    """
    decisions = None if calibration is None else Calibration.load(user_path(calibration))
    encoder = options.encoder()
    encoder.embedder = OneAtATime(encoder.embedder)  # adding and searching share it
    gallery = Gallery(options.uri, encoder, name=options.name, calibration=decisions, mode="r+", wait=options.wait)
    with ExitStack() as opened:
        opened.callback(gallery.close)
        words = _words(options, gallery)
        folder = StateFolder(root, gallery_identity(options.uri, options.name))
        opened.callback(folder.close)
        given: dict[str, Any] = {"calibration": decisions, "words": words, "settings": settings, "observe": observe}
        service = Service(gallery, encoder, folder, **given)
        opened.pop_all()
        return service


def check_token(host: str, token: str) -> None:
    """Refuse to be reached from other machines without a token, and tokens that can be guessed. ServeError."""
    if not token and not _is_loopback(host):
        raise ServeError(
            f"{host} can be reached from other machines, so clients need a token; set the environment variable {TOKEN} "
            f"to {LEAST_TOKEN} random characters or more, such as: {TOKEN}=$(openssl rand -hex 32)"
        )
    if token and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise ServeError(f"{TOKEN} needs {LEAST_TOKEN} ASCII characters or more, without spaces; give a random one")


def allowed_names(names: Sequence[str], token: str) -> tuple[str, ...]:
    """The names in a request's Host header that are answered."""
    if names:
        return (*map(str.lower, names), *LOCAL_NAMES)
    return ("*",) if token else LOCAL_NAMES


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(options: ServeOptions) -> dict[str, Any]:
    """uvicorn's settings for TLS. ServeError where a file is missing."""
    if options.certificate is None and options.key is None:
        return {}
    if options.certificate is None or options.key is None:
        raise ServeError("TLS needs a certificate and its key; give both files", ("TLS files",))
    for file in (options.certificate, options.key):
        if not is_file(user_path(file)):
            raise ServeError(f"{file} does not exist; give a PEM file", ("TLS files",))
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            user_path(options.certificate), user_path(options.key)
        )
    except (ssl.SSLError, OSError) as error:
        raise ServeError(
            f"{options.certificate} and {options.key} are no certificate and its key in PEM ({error}); give others",
            ("TLS files",),
        ) from None
    return {"ssl_certfile": str(user_path(options.certificate)), "ssl_keyfile": str(user_path(options.key))}


def _listen(host: str, port: int) -> socket.socket:
    """A socket at the address. ServeError where it cannot be had."""
    listening = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        if listening is not None:
            listening.close()
        reason = getattr(error, "strerror", None) or error
        raise ServeError(f"cannot listen at {host}, port {port} ({reason}); give another one", ("address",)) from None
    return listening


def _words(options: GalleryOptions, gallery: Gallery) -> Words | None:
    """The model's text encoder; None where it has none, which the log says."""
    if options.weights is None:
        return None
    try:
        words = build.TextEncoder.load(options.weights, options.config, options.device)
    except ReidError as error:
        logger.info("searches by words are switched off: %s", error)
        return None
    if words.spec.without_side_information().fingerprint != gallery.spec.fingerprint:
        logger.info("searches by words are switched off: the gallery has features of other settings")
        return None
    return words

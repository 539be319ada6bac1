"""The folder where a server keeps what has to outlive it: changes, added pictures, queries, its secret key."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from svllreid.errors import OutputError
from svllreid.files import atomic_write
from svllreid.gallery.milvus import is_server

logger = logging.getLogger(__name__)

_KEY_BYTES = 32
_TEMPORARY = re.compile(r"\..+\.\d+")  # of `atomic_write`


class StateFolder:
    """The folder of one running server and one gallery; only the user that runs the server may read it.

    Args:
        root: the folder, which is made if it is not there.
        gallery: what tells the gallery from others, see `gallery_identity`.
    Raises: OutputError: it cannot be made or written to, another server uses it, or it is of another gallery.
    """

    def __init__(self, root: Path, gallery: str) -> None:
        self.root = root
        self.pictures, self.queries, self.jobs = root / "pictures", root / "queries", root / "jobs"
        self.journal, self.audit = root / "journal.jsonl", root / "audit.jsonl"
        try:
            for folder in (root, self.pictures, self.queries, self.jobs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = FileLock(root / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"{root} is in use by another server; end it, or name another folder", ("state folder",)
            ) from None
        except OSError as error:
            raise OutputError(
                f"{root} cannot be made or written to ({error.strerror or error}); name another folder",
                ("state folder",),
            ) from None
        try:
            self._claim(gallery)
            self._delete_leftovers()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another server have the folder."""
        self._lock.release()

    def key(self) -> bytes:
        """32 secret bytes, made once, so that sessions outlive the server."""
        path = self.root / "key"
        if not path.exists() or path.stat().st_size != _KEY_BYTES:
            write_durably(path, secrets.token_bytes(_KEY_BYTES))
        return path.read_bytes()

    def _delete_leftovers(self) -> None:
        """Deletes what a killed server had written in part; no other one writes here."""
        # The root may be a folder of the user's, so there only files with names of ours are looked at.
        own = (self.root.glob(".key.*"), self.root.glob(".gallery.*"), self.pictures.glob("*/.*"))
        for file in chain(*own, self.queries.glob(".*"), self.jobs.glob(".*")):
            if _TEMPORARY.fullmatch(file.name):
                file.unlink(missing_ok=True)

    def _claim(self, gallery: str) -> None:
        """Writes down whose folder this is. OutputError where it is another gallery's."""
        path = self.root / "gallery"
        if not path.exists():
            write_durably(path, gallery.encode())
        elif (other := path.read_text(encoding="utf-8", errors="replace")) != gallery:
            raise OutputError(
                f"{self.root} holds the changes and pictures of the gallery {other}, and this is {gallery}; name a "
                "folder of its own",
                ("state folder",),
            )


def gallery_identity(uri: str, name: str) -> str:
    """What tells a gallery from others: its name, and the server that it is on; a file may be moved with its folder.

    >>> gallery_identity("people.db", "crops"), gallery_identity("http://milvus:19530", "crops")
    ('crops', 'crops at http://milvus:19530')
    """
    return f"{name} at {uri}" if is_server(uri) else name


def state_root(gallery: str, folder: Path | None) -> Path:
    """The folder of the server of a gallery: `people.web` beside `people.db`, unless another one is named.

    Raises: OutputError: the gallery is on a Milvus server, and no folder is named.
    """
    if folder is not None:
        return folder
    if is_server(gallery):
        raise OutputError(
            f"{gallery} is a Milvus server, and the folder for added pictures, changes and queries has to be on this "
            "machine; name one",
            ("state folder",),
        )
    return Path(gallery).with_suffix(".web")


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add a line of JSON to a file; it is on the disk when this returns.

    A line that a killed process wrote in part is ended first, so that it spoils no other one.
    """
    line = json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
    path.touch(mode=0o600)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of JSON in a file, with their numbers from 1.

    Lines that a killed process wrote in part, or that are damaged, are left out, and a warning counts them.
    """
    if not path.exists():
        return
    damaged = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, dict):
                yield number, content
            elif line.strip():
                damaged.append(number)
    if damaged:
        logger.warning(
            "%s: %d lines were written in part, as by a kill, or are damaged, and are left out; the first is line %d",
            path,
            len(damaged),
            damaged[0],
        )


def write_durably(path: Path, content: bytes) -> None:
    """Write a file atomically; it is on the disk when this returns."""
    with atomic_write(path) as temporary:
        temporary.touch(mode=0o600)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

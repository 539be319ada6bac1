"""The folder where a server keeps what has to outlive it: changes, added pictures, queries, its secret key."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svllreid.errors import OutputError
from svllreid.files import atomic_write
from svllreid.gallery.milvus import is_server

logger = logging.getLogger(__name__)


class StateFolder:
    """The folder of a server; only the user that runs the server may read it.

    Args:
        root: the folder, which is made if it is not there.
    Raises: OutputError: it cannot be made or written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pictures, self.queries, self.jobs = root / "pictures", root / "queries", root / "jobs"
        self.journal, self.audit = root / "journal.jsonl", root / "audit.jsonl"
        try:
            for folder in (root, self.pictures, self.queries, self.jobs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{root} cannot be made ({error.strerror or error}); name a folder that can", ("state folder",)
            ) from None

    def key(self) -> bytes:
        """32 secret bytes, made once, so that sessions outlive the server."""
        path = self.root / "key"
        if not path.exists():
            with atomic_write(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(32))
        return path.read_bytes()


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
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

"""pymilvus as galleries use it: imported without effects on other libraries, and with its errors as one message."""

from __future__ import annotations

import errno
import logging
import logging.config
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from svllreid.errors import GalleryError

TOKEN = "MILVUS_TOKEN"
"""The environment variable with the token of a server, `user:password` or an API key."""


def load_pymilvus() -> ModuleType:
    """The module pymilvus. GalleryError where it is not installed."""
    try:
        with _logging_kept():
            import pymilvus
    except ImportError:
        raise GalleryError("galleries need pymilvus; install it with: pip install 'svllreid[search]'") from None
    # They print the errors that they also raise.
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("grpc._server").addFilter(_is_no_lack)
    return pymilvus


@contextmanager
def one_message(uri: str, *, server: bool) -> Iterator[None]:
    """A context in which errors of pymilvus become a GalleryError that says what to do.

    Args:
        uri: of the gallery, for the message.
        server: whether that is a server, and not a file.
    """
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError, OSError) as error:
        # Of a refused connection the reason is only in the error behind it.
        text, cause = getattr(error, "message", ""), error.__cause__
        if isinstance(cause, grpc.Call) and cause.code() == grpc.StatusCode.UNAUTHENTICATED:
            text = cause.details()
        text = " ".join(str(text or error).split())
        raise GalleryError(f"{uri}: {text}; {_advice(text, server=server)}") from None


def _advice(text: str, *, server: bool) -> str:
    if os.strerror(errno.ENOSPC) in text:
        return "free space, then give the same command again; what was stored before is there"
    if server and ("auth" in text.lower() or "permission" in text.lower()):
        return f"set the environment variable {TOKEN} to its token, user:password or an API key"
    if server:
        return "check that the server runs at this address, then give the same command again; nothing is lost"
    if any(os.strerror(code) in text for code in (errno.EACCES, errno.EPERM, errno.EROFS)):
        return "make it and its folder writable"
    return "if the file is damaged, restore it or make it anew"


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Leaves the log handlers of others alone, all of which pymilvus closes when it is first imported.

    A closed log file in mode "w" gets no further line, and absl's handler closes the stream it was made with.
    """
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure


def _is_no_lack(record: logging.LogRecord) -> bool:
    """Whether a log record is no complaint about a method that Milvus Lite lacks; pymilvus does without it."""
    return record.exc_info is None or not isinstance(record.exc_info[1], NotImplementedError)

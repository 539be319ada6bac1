"""Errors that a client of the server caused or has to wait for."""

from __future__ import annotations

from svllreid.errors import ReidError


class Refusal(ReidError):
    """A request that is refused.

    Args:
        status: the HTTP status: 4xx, or 503 where the server is busy.
        message: what is wrong and how to go on. It is shown to the client, so it names no file of the server.
        retry_after: seconds after which the same request may succeed; None where it never will.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class ServeError(ReidError):
    """A server that cannot be started."""

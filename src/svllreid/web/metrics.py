"""What the server counts, for Prometheus, and a line of the log for each request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        labels, registry = ("method", "route"), self.registry
        self.requests = Counter("svllreid_requests", "Requests.", (*labels, "status"), registry=registry)
        self.seconds = Histogram("svllreid_request_seconds", "Seconds.", labels, buckets=_SECONDS, registry=registry)
        self.batches = Histogram(
            "svllreid_batch_pictures", "Pictures embedded at once.", buckets=_SIZES, registry=registry
        )

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a number that is asked for whenever the metrics are read."""
        Gauge(f"svllreid_{name}", text, registry=self.registry).set_function(value)

    def batch(self, size: int) -> None:
        """Count a batch of pictures."""
        self.batches.observe(size)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class WatchMiddleware:
    """Counts and logs requests: method, route, status, time and client; no addresses, words, names or tokens.

    Args:
        app: what is watched.
        metrics: counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            seconds, route = time.perf_counter() - start, _route(scope)
            method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE") else "other"
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.seconds.labels(method, route).observe(seconds)
            client = scope["client"][0] if scope.get("client") else ""
            logger.info("%s %s %d %.0f ms %s", method, route, status, 1000 * seconds, client)


def _route(scope: Scope) -> str:
    """The route of a request with its parameters' names, not their values."""
    return getattr(scope.get("route"), "path", None) or "none"

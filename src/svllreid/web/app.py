"""The application: routes, middleware, and what clients read where a request is refused or fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from svllreid import __version__
from svllreid.errors import ReidError
from svllreid.web.access.security import API, GuardMiddleware
from svllreid.web.access.sessions import Guard
from svllreid.web.api.routes import api
from svllreid.web.api.schemas import Status
from svllreid.web.errors import Refusal
from svllreid.web.metrics import Metrics, WatchMiddleware
from svllreid.web.pages.site import add_pages, error_page
from svllreid.web.service.service import Service

logger = logging.getLogger(__name__)

_SWEEP = 60.0  # seconds between two looks for expired queries
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_app(
    service: Service, guard: Guard, metrics: Metrics, *, hosts: Sequence[str] = ("*",), most_requests: int = 200
) -> FastAPI:
    """The application of a service. It closes the service when it ends.

    Args:
        service: what it answers with.
        guard: the token and the rate limit.
        metrics: what it counts.
        hosts: the names under which browsers may reach it; others are refused, so that no other site's name can lead
            to it (DNS rebinding).
        most_requests: that are handled at the same time.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(service))
        yield
        sweeping.cancel()
        await run_in_threadpool(service.close)

    app = FastAPI(
        title="svllreid",
        version=__version__,
        description="Search a gallery of persons or vehicles, and put its identities in order.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        lifespan=lifespan,
        telemetry={"auto_configure": False},  # nothing leaves the machine, whatever the environment says
    )
    app.state.service = service
    metrics.gauge("crops", "Crops in the gallery.", lambda: len(service.crops.crops))
    metrics.gauge("waiting_pictures", "Pictures that wait for the model.", lambda: service.batching.number)
    app.include_router(api)
    _add_health(app, service, metrics)
    add_pages(app, service)
    for kind in (Refusal, ReidError, RequestValidationError, HTTPException, OSError):
        app.add_exception_handler(kind, _handler)
    limit = service.limits.request_bytes
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=limit)
    app.add_middleware(GuardMiddleware, guard=guard, refuse=error_response, request_bytes=limit, most=most_requests)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(WatchMiddleware, metrics=metrics)
    app.add_middleware(HeadMiddleware)
    return app


async def _sweep(service: Service) -> None:
    """Deletes expired queries, also where nobody searches any more."""
    while True:
        await asyncio.sleep(_SWEEP)
        try:
            await run_in_threadpool(service.searches.queries.sweep)
        except OSError:
            logger.exception("expired queries cannot be deleted")


class HeadMiddleware:
    """Answers HEAD as GET, without the content.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_content(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self.app({**scope, "method": "GET"}, receive, without_content)


def _add_health(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> Status:
        """Whether the process answers."""
        return Status(status="ok")

    @app.get("/readyz", tags=["health"], responses={503: {"model": Status}})
    def readyz(response: Response) -> Status:
        """Whether the gallery answers."""
        try:
            service.check()
        except ReidError:
            logger.exception("the gallery does not answer")
            response.status_code = 503
            return Status(status="the gallery does not answer")
        return Status(status="ready")

    @app.get("/metrics", include_in_schema=False)
    def read_metrics() -> Response:
        return Response(metrics.text(), headers={"Content-Type": _METRICS_TYPE})


async def _handler(request: Request, error: Exception) -> Response:
    return error_response(request, error)


def error_response(request: Request, error: Exception) -> Response:
    """What the client reads of an error: JSON for programs, a page for people. No path of the server is in it."""
    status, detail, headers = _described(error)
    if API.fullmatch(request.scope["path"]):
        return JSONResponse({"detail": detail}, status, headers)
    page = error_page(request, status, detail=detail)
    page.headers.update(headers)
    return page


def _described(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Status, sentence and headers for an error."""
    if isinstance(error, Refusal):
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return error.status, str(error), headers
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail), dict(error.headers or {})
    if isinstance(error, RequestValidationError):
        return 422, _first_fault(error), {}
    if isinstance(error, ReidError | OSError):
        unexpected = None if isinstance(error, ReidError) else error
        logger.error("the gallery or its folder cannot be used: %s", error, exc_info=unexpected)
        return 503, "the gallery cannot be used now; the server's log says why", {"Retry-After": "30"}
    return 500, "the server made a mistake; its log says more", {}


def _first_fault(error: RequestValidationError) -> str:
    """What is wrong with the first value that cannot be used."""
    fault: dict[str, Any] = error.errors()[0]
    if fault["type"] in ("json_invalid", "model_attributes_type"):
        return "the body is no JSON object; send one, with the header Content-Type: application/json"
    where = ".".join(str(part) for part in fault["loc"][1:])
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])

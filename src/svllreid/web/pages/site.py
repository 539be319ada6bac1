"""The pages: HTML that works without scripts. Each address calls the service and fills a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from svllreid.web.access import security
from svllreid.web.pages.forms import Text, page_router, send_to
from svllreid.web.pages.gallery import gallery_routes
from svllreid.web.pages.identity import identity_routes, review_routes
from svllreid.web.pages.rendering import error_page, page
from svllreid.web.pages.search import search_routes
from svllreid.web.service.service import Service

__all__ = ["add_pages", "error_page"]

STATIC = Path(__file__).parent / "static"


def add_pages(app: FastAPI, service: Service) -> None:
    """Give an application the pages.

    Args:
        app: its middleware sets what `security` says of a request's state.
        service: what the pages show and change.
    """
    app.mount("/static", _Static(directory=STATIC), name="static")
    app.include_router(_sign_in_routes())
    for routes in (search_routes, identity_routes, review_routes, gallery_routes):
        app.include_router(routes(service))


class _Static(StaticFiles):
    """Static files that browsers keep, and ask each time whether they have changed."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        """See StaticFiles."""
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _sign_in_routes() -> APIRouter:
    routes = page_router()

    @routes.get("/login")
    def login(request: Request, next: str = "/") -> Any:
        if not request.state.needs_token:
            return send_to(security.safe_next(next))
        return page(request, "login", next=security.safe_next(next), wrong=False)

    @routes.post("/login")
    def signed_in(request: Request, token: Text = "", next: Text = "/") -> Any:
        if security.sign_in(request, token):
            return send_to(security.safe_next(next))
        return page(request, "login", "", 403, next=security.safe_next(next), wrong=True)

    @routes.post("/logout")
    def logout(request: Request) -> RedirectResponse:
        security.sign_out(request)
        return send_to("/login")

    return routes

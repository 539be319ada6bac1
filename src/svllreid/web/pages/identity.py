"""The pages of identities: the list, the timeline of one, and the review of doubtful pairs."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from svllreid.web.access import security
from svllreid.web.api.routes import archive_response
from svllreid.web.errors import Refusal
from svllreid.web.pages.forms import Text, Texts, find_change, page_router, send_to
from svllreid.web.pages.rendering import identity_address, page
from svllreid.web.pages.timeline import lanes_of, stops_of
from svllreid.web.service.records import Change
from svllreid.web.service.service import Service

LISTED, CROPS = 60, 300
"""Identities, and crops of one identity, on one page."""
NAMES = 200
"""Identities that a form suggests."""


def identity_routes(service: Service) -> APIRouter:
    """The routes, for a service."""
    routes = page_router()

    @routes.get("/identities")
    def identities(
        request: Request, contains: str = "", start: Annotated[int, Query(ge=0)] = 0, changed: int = 0
    ) -> Any:
        summaries, total = service.identities(contains, start, LISTED)
        if total and not summaries:  # a page that is there no more, as after a merge
            return send_to("/identities", contains=contains)
        return page(
            request,
            "identities",
            "Identities",
            summaries=summaries,
            total=total,
            contains=contains,
            pages=_neighbours(f"/identities?{urlencode({'contains': contains})}", start, LISTED, total),
            change=find_change(service, changed),
            changes=service.journal.changes(10),
            back="/identities",
        )

    @routes.get("/identity")
    def identity(
        request: Request, pid: str = "", start: Annotated[int, Query(ge=0)] = 0, changed: int = 0
    ) -> HTMLResponse:
        crops = service.identity(pid)
        start = start if start < len(crops) else 0
        times = [crop.time for crop in crops if crop.time is not None]
        return page(
            request,
            "identity",
            "Identities",
            pid=pid,
            crops=crops,
            lanes=lanes_of(crops),
            span=(min(times), max(times)) if times else None,
            stops=stops_of(crops[start : start + CROPS]),
            pages=_neighbours(identity_address(pid), start, CROPS, len(crops)),
            names=[one.pid for one in service.identities("", 0, NAMES)[0] if one.pid != pid],
            remove=f"/gallery/remove?{urlencode({'pid': pid})}",
            change=find_change(service, changed),
            back="/identities",
        )

    @routes.post("/identities/merge")
    def merge(pid: Texts = None, into: Text = "") -> RedirectResponse:
        pids = pid or []
        if not pids or (len(pids) == 1 and not into.strip()):
            raise Refusal(422, "select two identities or more, or name the one to merge into")
        return _after(service.changing.merge(pids, into.strip() or pids[0]))

    @routes.post("/identities/split")
    def split(crop: Texts = None, name: Text = "", back: Text = "") -> RedirectResponse:
        if not crop:
            raise Refusal(422, "select the crops that show somebody else")
        change = service.changing.split(crop, name.strip(), join=True)
        return send_to(security.safe_next(back), changed=change.number) if back else _after(change)

    @routes.post("/identities/rename")
    def rename(pid: Text = "", name: Text = "") -> RedirectResponse:
        return _after(service.changing.rename(pid, name.strip()))

    @routes.post("/changes/undo")
    def undo(number: Annotated[int | None, Form()] = None, back: Text = "/identities") -> RedirectResponse:
        return send_to(security.safe_next(back), changed=service.changing.undo(number).number)

    return routes


def _neighbours(address: str, start: int, length: int, total: int) -> list[tuple[str, str]]:
    """The names and addresses of the pages before and after the one that begins at `start`."""
    starts = {"Previous": max(start - length, 0) if start else -1, "Next": start + length}
    return [(name, f"{address}&start={place}") for name, place in starts.items() if 0 <= place < total]


def _after(change: Change) -> RedirectResponse:
    """On to the identity that came of a change, where the change is shown."""
    return send_to(identity_address(change.pid) if change.pid else "/identities", changed=change.number)


def review_routes(service: Service) -> APIRouter:
    """The routes, for a service."""
    routes = page_router()

    @routes.get("/review")
    def review(request: Request, changed: int = 0) -> HTMLResponse:
        undoable = next((one for one in service.journal.changes(20) if one.can_undo and one.kind == "review"), None)
        change = find_change(service, changed)
        return page(request, "review", "Review", pair=service.next_pair(), change=change, undoable=undoable)

    @routes.post("/review")
    def answer(pair: Text = "", answer: Annotated[str, Form()] = "") -> RedirectResponse:
        if answer not in ("same", "different", "skip"):
            raise Refusal(422, "the answers are same, different and skip")
        return send_to("/review", changed=service.answer_pair(pair, answer).number)  # type: ignore[arg-type]

    @routes.get("/review/manifest")
    def manifest() -> StreamingResponse:
        return archive_response(service)

    return routes

"""The pages: each address calls the service and fills a template. They work without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.background import BackgroundTask

from svllreid.web import security, uploads
from svllreid.web.errors import WebError
from svllreid.web.records import Answer, Change, RemovalConditions, SearchOptions
from svllreid.web.rendering import error_page, identity_address, page
from svllreid.web.service import Service
from svllreid.web.timeline import lanes_of, stops_of

__all__ = ["add_pages", "error_page"]

STATIC = Path(__file__).parent / "static"
LISTED = 60
"""Identities on one page."""
COVERS = 12
"""Identities that the first page shows."""
MORE = 24
"""How many more hits are shown at a time."""
MOST = 200
"""The most hits of a search."""

Text = Annotated[str, Form()]
Texts = Annotated[list[str] | None, Form()]
Uploads = Annotated[list[UploadFile] | None, File()]
Number = Annotated[str, Form()]
Some = Annotated[list[int] | None, Query()]
SomeTexts = Annotated[list[str] | None, Query()]


def add_pages(app: FastAPI, service: Service) -> None:
    """Give an application the pages.

    Args:
        app: its middleware sets what `security` says of a request's state.
        service: what the pages show and change.
    """
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for routes in (_sign_in_routes(), _search_routes(service), _identity_routes(service), _review_routes(service)):
        app.include_router(routes)
    app.include_router(_gallery_routes(service))


def _router() -> APIRouter:
    """Routes that answer with pages, and whose forms come from our own pages."""
    return APIRouter(
        dependencies=[Depends(security.check_not_forged)], include_in_schema=False, default_response_class=HTMLResponse
    )


def _to(address: str, **query: Any) -> RedirectResponse:
    """Sends the browser on, so that loading the next page again repeats nothing."""
    parts = "&" if "?" in address else "?"
    return RedirectResponse(address + (parts + urlencode(query) if query else ""), 303)


def _sign_in_routes() -> APIRouter:
    routes = _router()

    @routes.get("/login")
    def login(request: Request, next: str = "/") -> Any:
        if not request.state.needs_token:
            return _to(security.safe_next(next))
        return page(request, "login", next=security.safe_next(next), wrong=False)

    @routes.post("/login")
    def signed_in(request: Request, token: Text = "", next: Text = "/") -> Any:
        if security.sign_in(request, token):
            return _to(security.safe_next(next))
        return page(request, "login", "", 403, next=security.safe_next(next), wrong=True)

    @routes.post("/logout")
    def logout(request: Request) -> RedirectResponse:
        security.sign_out(request)
        return _to("/login")

    return routes


def _search_routes(service: Service) -> APIRouter:
    routes = _router()

    @routes.get("/")
    def start(request: Request) -> HTMLResponse:
        covers, identities = service.identities("", 0, COVERS)
        return page(
            request,
            "search",
            "Search",
            crops=len(service.crops.all()),
            identities=identities,
            covers=covers,
            facets=service.facets(),
            limits=service.limits,
        )

    @routes.post("/search")
    def keep_pictures(
        image: Uploads = None,
        box: Texts = None,
        left: Number = "",
        top: Number = "",
        width: Number = "",
        height: Number = "",
        also: str = "",
    ) -> RedirectResponse:
        limits = service.limits
        contents = uploads.read(image or [], limits, limits.query_pictures)
        boxes = [_box(text.split(",")) for text in box] if box else [_box([left, top, width, height])]
        boxes = [*boxes, *[None] * len(contents)][: len(contents)]
        return _to("/search", query=service.keep_pictures(contents, boxes, also).id)

    @routes.post("/search/words")
    def keep_words(words: Text = "") -> RedirectResponse:
        return _to("/search", query=service.keep_words(words).id)

    @routes.get("/crops/{crop_id}/similar")
    def similar(crop_id: str) -> RedirectResponse:
        return _to("/search", query=service.keep_crop(crop_id).id)

    @routes.get("/search")
    def results(
        request: Request,
        query: str = "",
        camid: Some = None,
        tag: SomeTexts = None,
        after: str = "",
        before: str = "",
        group: Literal["", "pid", "tracklet"] = "",
        combine: Literal["mean", "best"] = "mean",
        rate: str = "",
        k: Annotated[int, Query(ge=1, le=MOST)] = MORE,
    ) -> Any:
        if not query:
            return _to("/")
        options = SearchOptions(
            k=k,
            camids=tuple(camid or ()),
            after=after,
            before=before,
            tags=tuple(tag or ()),
            combine=combine,
            group_by=group or None,
            false_accept_rate=_rate(rate),
        )
        return _results_page(request, service, service.search(query, options), options)

    @routes.get("/crops/{crop_id}")
    def crop(request: Request, crop_id: str, changed: int = 0) -> HTMLResponse:
        shown, change = service.crop(crop_id), _change(service, changed)
        return page(request, "crop", "Search", crop=shown, change=change, back=f"/crops/{crop_id}")

    return routes


def _results_page(request: Request, service: Service, answer: Answer, options: SearchOptions) -> HTMLResponse:
    """The hits of a search, in groups where the calibration decides."""
    ranked = list(enumerate(answer.hits, 1))
    groups = [("Nearest", ranked)]
    if answer.nobody is not None:
        same, others = ([pair for pair in ranked if bool(pair[1].same) is wanted] for wanted in (True, False))
        groups = [("Same", same), ("Nearest of the different ones" if same else "The nearest all the same", others)]
    more = ""
    if len(answer.hits) == options.k < MOST:
        more = f"/search?{_address_of(answer, options, min(MOST, options.k + MORE))}"
    heading = {"images": "Who looks like this?", "crop": "Who looks like this crop?", "words": "Who looks like that?"}
    return page(
        request,
        "results",
        "Search",
        answer=answer,
        options=options,
        facets=service.facets(),
        limits=service.limits,
        groups=[group for group in groups if group[1]],
        source=service.crop(answer.query.crop_id) if answer.query.kind == "crop" else None,
        filtered=_filtered(options),
        more=more,
        heading=heading[answer.query.kind],
    )


def _filtered(options: SearchOptions) -> bool:
    """Whether crops may be left out."""
    return bool(options.camids or options.tags or options.after or options.before or options.group_by)


def _address_of(answer: Answer, options: SearchOptions, k: int) -> str:
    """The query string of a search with k hits."""
    given = {
        "query": answer.query.id,
        "camid": options.camids,
        "tag": options.tags,
        "after": options.after,
        "before": options.before,
        "group": options.group_by,
        "combine": options.combine if options.combine != "mean" else "",
        "rate": options.false_accept_rate,
        "k": k,
    }
    return urlencode({name: value for name, value in given.items() if value}, doseq=True)


def _box(numbers: Sequence[str]) -> tuple[float, float, float, float] | None:
    """Left, top, width and height, as a form gives them, as the corners of a box; None where all are empty."""
    if not any(text.strip() for text in numbers):
        return None
    try:
        left, top, width, height = (float(text) for text in numbers)
    except ValueError:
        raise WebError(422, "a box has four numbers: left, top, width and height in pixels") from None
    return left, top, left + width, top + height


def _rate(text: str) -> float | None:
    """A false-accept rate of the form; None: the usual one."""
    try:
        return float(text) if text else None
    except ValueError:
        raise WebError(422, f"{text!r} is no share of false matches; choose one of the list") from None


def _identity_routes(service: Service) -> APIRouter:
    routes = _router()

    @routes.get("/identities")
    def identities(
        request: Request, contains: str = "", start: Annotated[int, Query(ge=0)] = 0, changed: int = 0
    ) -> HTMLResponse:
        summaries, total = service.identities(contains, start, LISTED)
        starts = [("Previous", start - LISTED), ("Next", start + LISTED)]
        links = [
            (name, f"/identities?{urlencode({'contains': contains, 'start': place})}")
            for name, place in starts
            if 0 <= place < total
        ]
        return page(
            request,
            "identities",
            "Identities",
            summaries=summaries,
            total=total,
            contains=contains,
            pages=links,
            change=_change(service, changed),
            changes=service.changes(10),
            back="/identities",
        )

    @routes.get("/identity")
    def identity(request: Request, pid: str = "", changed: int = 0) -> HTMLResponse:
        crops = service.identity(pid)
        times = [crop.time for crop in crops if crop.time is not None]
        return page(
            request,
            "identity",
            "Identities",
            pid=pid,
            crops=crops,
            lanes=lanes_of(crops),
            span=(min(times), max(times)) if times else None,
            stops=stops_of(crops),
            names=[one.pid for one in service.identities("", 0, MOST)[0] if one.pid != pid],
            remove=f"/gallery/remove?{urlencode({'pid': pid})}",
            change=_change(service, changed),
            back="/identities",
        )

    @routes.post("/identities/merge")
    def merge(pid: Texts = None, into: Text = "") -> RedirectResponse:
        pids = pid or []
        if not pids or (len(pids) == 1 and not into.strip()):
            raise WebError(422, "select two identities or more, or name the one to merge into")
        return _after(service.merge(pids, into.strip() or pids[0]))

    @routes.post("/identities/split")
    def split(crop: Texts = None, name: Text = "", back: Text = "") -> RedirectResponse:
        if not crop:
            raise WebError(422, "select the crops that show somebody else")
        change = service.split(crop, name.strip())
        return _to(security.safe_next(back), changed=change.number) if back else _after(change)

    @routes.post("/identities/rename")
    def rename(pid: Text = "", name: Text = "") -> RedirectResponse:
        return _after(service.rename(pid, name.strip()))

    @routes.post("/changes/undo")
    def undo(number: Annotated[int | None, Form()] = None, back: Text = "/identities") -> RedirectResponse:
        return _to(security.safe_next(back), changed=service.undo(number).number)

    return routes


def _change(service: Service, number: int) -> Change | None:
    """A change of late, by its number."""
    return next((change for change in service.changes(20) if change.number == number), None) if number else None


def _after(change: Change) -> RedirectResponse:
    """On to the identity that came of a change, where the change is shown."""
    return _to(identity_address(change.pid) if change.pid else "/identities", changed=change.number)


def _review_routes(service: Service) -> APIRouter:
    routes = _router()

    @routes.get("/review")
    def review(request: Request, changed: int = 0) -> HTMLResponse:
        undoable = next((one for one in service.changes(20) if one.can_undo and one.kind == "review"), None)
        change = _change(service, changed)
        return page(request, "review", "Review", pair=service.next_pair(), change=change, undoable=undoable)

    @routes.post("/review")
    def answer(pair: Text = "", answer: Annotated[str, Form()] = "") -> RedirectResponse:
        if answer not in ("same", "different", "skip"):
            raise WebError(422, "the answers are same, different and skip")
        return _to("/review", changed=service.answer_pair(pair, answer).number)  # type: ignore[arg-type]

    @routes.get("/review/manifest")
    def manifest() -> FileResponse:
        file = service.archive()[0]
        return FileResponse(
            file,
            media_type="application/zip",
            filename="identities.zip",
            background=BackgroundTask(file.unlink, missing_ok=True),
        )

    return routes


def _gallery_routes(service: Service) -> APIRouter:
    routes = _router()

    @routes.get("/gallery")
    def gallery(request: Request, removed: int | None = None) -> HTMLResponse:
        return page(request, "gallery", "Gallery", about=service.about(), removed=removed)

    @routes.post("/gallery/add")
    def add(
        image: Uploads = None, pid: Text = "", camid: Number = "", time: Text = "", tags: Text = ""
    ) -> RedirectResponse:
        limits = service.limits
        contents = uploads.read(image or [], limits, limits.add_pictures)
        given = tuple(tag.strip() for tag in tags.split(";") if tag.strip())
        job = service.start_adding(contents, pid=pid.strip(), camid=_camera(camid), time=time, tags=given)
        return _to(f"/gallery/adding/{job.id}")

    @routes.get("/gallery/adding/{job_id}")
    def adding(request: Request, job_id: str) -> HTMLResponse:
        job = service.add_job(job_id)
        headings = {"waiting": "Adding", "running": "Adding", "done": "Added", "failed": "Adding failed"}
        return page(request, "adding", "Gallery", job=job, heading=headings[job.state])

    @routes.get("/gallery/remove")
    def plan_removal(
        request: Request, crop: str = "", pid: str = "", camid: str = "", tag: str = "", older_than: str = ""
    ) -> HTMLResponse:
        camera = _camera(camid)
        conditions = RemovalConditions(
            ids=(crop,) if crop else (),
            pids=(pid,) if pid else (),
            camids=() if camera is None else (camera,),
            tags=(tag,) if tag else (),
            older_than=older_than.strip(),
        )
        texts = {"with the id": crop[:12], "of": pid, "of camera": camid, "with the tag": tag, "older than": older_than}
        said = " and ".join(f"{name} {value}" for name, value in texts.items() if value)
        return page(request, "remove", "Gallery", removal=service.plan_removal(conditions), said=said)

    @routes.post("/gallery/remove")
    def remove(confirmation: Text = "") -> RedirectResponse:
        return _to("/gallery", removed=service.remove(confirmation))

    return routes


def _camera(text: str) -> int | None:
    """The number of a camera in a form; None where it is empty."""
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        raise WebError(422, f"{text!r} is no camera; give its number") from None

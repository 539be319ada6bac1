"""The pages of searches: the query, its results, and one crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from svllreid.web.errors import Refusal
from svllreid.web.pages.forms import QueryNumbers, QueryTexts, Text, Texts, Uploads, find_change, page_router, send_to
from svllreid.web.pages.rendering import page
from svllreid.web.service import uploads
from svllreid.web.service.records import Answer, SearchOptions
from svllreid.web.service.service import Service

COVERS = 12
"""Identities that the first page shows."""
MORE = 24
"""How many more hits are shown at a time."""
MOST = 200
"""The most hits of a search."""


def search_routes(service: Service) -> APIRouter:
    """The routes, for a service."""
    routes = page_router()

    @routes.get("/")
    def start(request: Request) -> HTMLResponse:
        covers, identities = service.identities("", 0, COVERS)
        return page(
            request,
            "search",
            "Search",
            crops=len(service.crops.crops),
            identities=identities,
            covers=covers,
            facets=service.facets(),
            limits=service.limits,
        )

    @routes.post("/search")
    def keep_pictures(
        image: Uploads = None,
        box: Texts = None,
        left: Text = "",
        top: Text = "",
        width: Text = "",
        height: Text = "",
        also: str = "",
    ) -> RedirectResponse:
        limits = service.limits
        contents = uploads.read(image or [], limits, limits.query_pictures)
        boxes = [_box(text.split(",")) for text in box] if box else [_box([left, top, width, height])]
        boxes = [*boxes, *[None] * len(contents)][: len(contents)]
        return send_to("/search", query=service.searches.keep_pictures(contents, boxes, also).id)

    @routes.post("/search/words")
    def keep_words(words: Text = "") -> RedirectResponse:
        return send_to("/search", query=service.searches.keep_words(words).id)

    @routes.get("/crops/{crop_id}/similar")
    def similar(crop_id: str) -> RedirectResponse:
        return send_to("/search", query=service.searches.query_of_crop(crop_id).id)

    @routes.get("/search")
    def results(
        request: Request,
        query: str = "",
        camid: QueryNumbers = None,
        not_these: bool = False,
        tag: QueryTexts = None,
        after: str = "",
        before: str = "",
        group: Literal["", "pid", "tracklet"] = "",
        combine: Literal["mean", "best"] = "mean",
        rate: str = "",
        k: Annotated[int, Query(ge=1, le=MOST)] = MORE,
        changed: int = 0,
    ) -> Any:
        if not query:
            return send_to("/")
        options = SearchOptions(
            k=k,
            camids=() if not_these else tuple(camid or ()),
            not_camids=tuple(camid or ()) if not_these else (),
            after=after,
            before=before,
            tags=tuple(tag or ()),
            combine=combine,
            group_by=group or None,
            false_accept_rate=_rate(rate),
        )
        return _results_page(request, service, service.searches.search(query, options), options, changed)

    @routes.get("/crops/{crop_id}")
    def crop(request: Request, crop_id: str, changed: int = 0) -> HTMLResponse:
        shown, change = service.crop(crop_id), find_change(service, changed)
        return page(request, "crop", "Search", crop=shown, change=change, back=f"/crops/{crop_id}")

    return routes


def _results_page(
    request: Request, service: Service, answer: Answer, options: SearchOptions, changed: int
) -> HTMLResponse:
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
        change=find_change(service, changed),
        back=f"/search?{_address_of(answer, options, options.k)}",
        heading=heading[answer.query.kind],
    )


def _filtered(options: SearchOptions) -> bool:
    """Whether crops may be left out."""
    cameras = options.camids or options.not_camids
    return bool(cameras or options.tags or options.after or options.before or options.group_by)


def _address_of(answer: Answer, options: SearchOptions, k: int) -> str:
    """The query string of a search with k hits."""
    given = {
        "query": answer.query.id,
        "camid": options.camids or options.not_camids,
        "not_these": "true" if options.not_camids else "",
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
        raise Refusal(422, "a box has four numbers: left, top, width and height in pixels") from None
    return left, top, left + width, top + height


def _rate(text: str) -> float | None:
    """A false-accept rate of the form; None: the usual one."""
    try:
        return float(text) if text else None
    except ValueError:
        raise Refusal(422, f"{text!r} is no share of false matches; choose one of the list") from None

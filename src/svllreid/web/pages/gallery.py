"""The pages of the gallery: what it holds, adding pictures, and removing crops."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from svllreid.web.errors import Refusal
from svllreid.web.pages.forms import Text, Uploads, page_router, send_to
from svllreid.web.pages.rendering import page
from svllreid.web.service import uploads
from svllreid.web.service.records import RemovalConditions
from svllreid.web.service.service import Service


def gallery_routes(service: Service) -> APIRouter:
    """The routes, for a service."""
    routes = page_router()

    @routes.get("/gallery")
    def gallery(request: Request, removed: int | None = None) -> HTMLResponse:
        return page(request, "gallery", "Gallery", about=service.about(), removed=removed)

    @routes.post("/gallery/add")
    def add(
        image: Uploads = None, pid: Text = "", camid: Text = "", time: Text = "", tags: Text = ""
    ) -> RedirectResponse:
        limits = service.limits
        contents = uploads.read(image or [], limits, limits.add_pictures)
        given = tuple(tag.strip() for tag in tags.split(";") if tag.strip())
        job = service.stock.start_adding(contents, pid=pid.strip(), camid=_camera(camid), time=time, tags=given)
        return send_to(f"/gallery/adding/{job.id}")

    @routes.get("/gallery/adding/{job_id}")
    def adding(request: Request, job_id: str) -> HTMLResponse:
        job = service.stock.adding.job(job_id)
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
        return page(request, "remove", "Gallery", removal=service.stock.plan_removal(conditions), said=said)

    @routes.post("/gallery/remove")
    def remove(confirmation: Text = "") -> RedirectResponse:
        return send_to("/gallery", removed=service.stock.remove(confirmation))

    return routes


def _camera(text: str) -> int | None:
    """The number of a camera in a form; None where it is empty."""
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        raise Refusal(422, f"{text!r} is no camera; give its number") from None

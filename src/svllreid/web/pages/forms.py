"""What all routes of pages share: the fields of forms, and how a browser is sent on."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, File, Form, Query, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse

from svllreid.web.access import security
from svllreid.web.service.records import Change
from svllreid.web.service.service import Service

Text = Annotated[str, Form()]
Texts = Annotated[list[str] | None, Form()]
Uploads = Annotated[list[UploadFile] | None, File()]
QueryNumbers = Annotated[list[int] | None, Query()]
QueryTexts = Annotated[list[str] | None, Query()]


def page_router() -> APIRouter:
    """Routes that answer with pages, and whose forms come from our own pages."""
    return APIRouter(
        dependencies=[Depends(security.check_not_forged)], include_in_schema=False, default_response_class=HTMLResponse
    )


def send_to(address: str, **query: Any) -> RedirectResponse:
    """Sends the browser on, so that loading the next page again repeats nothing."""
    parts = "&" if "?" in address else "?"
    return RedirectResponse(address + (parts + urlencode(query) if query else ""), 303)


def find_change(service: Service, number: int) -> Change | None:
    """One of the latest changes, by its number; None where it is not among them."""
    return next((change for change in service.journal.changes(20) if change.number == number), None) if number else None

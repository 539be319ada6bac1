"""From a template and values to a page: how times, probabilities, rates and sizes are written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from svllreid import __version__
from svllreid.web.service.records import ShownCrop

ADVICE = {
    400: "Go back, change what is wrong, and send it again.",
    403: "Load the page again and repeat what you did; sign in again if that does not help.",
    404: "It may have been removed, or the address is wrong. A search is forgotten after a while; search again.",
    405: "Pages are reached by the links above.",
    409: "Somebody may have changed it meanwhile. Load the page again and look.",
    413: "Send fewer or smaller pictures.",
    415: "Send pictures as JPEG, PNG or WebP.",
    422: "Go back, change what is wrong, and send it again.",
    429: "Wait a minute, then go on.",
    500: "That is our mistake, not yours. What was saved before is still there; the server's log says more.",
    503: "The server is busy. Try again in a few seconds.",
}
"""What somebody who meets an error can do, by HTTP status."""
_TITLES = {
    400: "That did not work",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    409: "It has changed meanwhile",
    413: "Too large",
    415: "No picture that is read here",
    422: "That did not work",
    429: "Too many requests",
    500: "Something broke",
    503: "Busy",
}


def when(time: float) -> str:
    """A point in time as people read it, in UTC.

    >>> when(1777638600.0), when(-1e300)
    ('2026-05-01 12:30:00', '-1e+300 s')
    """
    moment = _moment(time)
    return f"{time:g} s" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def iso(time: float) -> str:
    """A point in time in ISO 8601; empty where the calendar does not reach it.

    >>> iso(1777638600.0)
    '2026-05-01T12:30:00Z'
    """
    moment = _moment(time)
    return "" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(time: float) -> datetime | None:
    """The point in time; None outside of the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(time, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def percent(probability: float) -> str:
    """A probability, never as certain as it cannot be.

    >>> percent(0.934).split(), percent(0.9999).split(), percent(0.0).split()  # with spaces that break no line
    (['93', '%'], ['>', '99', '%'], ['<', '1', '%'])
    """
    if probability < 0.01:
        return "<\xa01\xa0%"
    return ">\xa099\xa0%" if probability > 0.99 else f"{100 * probability:.0f}\xa0%"


def one_in(rate: float) -> str:
    """A small share as one of so many.

    >>> one_in(0.001), one_in(0.05)
    ('1 in 1,000', '1 in 20')
    """
    return f"1 in {1 / rate:,.0f}" if rate > 0 else "none"


def size(count: int) -> str:
    """A number of bytes in the unit that suits it.

    >>> size(900), size(24_300_000)
    ('900 B', '24.3 MB')
    """
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def described(crop: ShownCrop) -> str:
    """What a picture shows, for those who do not see it."""
    identity = "Crop without identity" if crop.pid is None else f"Crop of {crop.pid}"
    camera = "" if crop.camid is None else f", camera {crop.camid}"
    return identity + camera + ("" if crop.time is None else f", {when(crop.time)}")


def identity_address(pid: str) -> str:
    """The address of an identity's page. Names stand in the query, since paths cannot hold all of them.

    >>> identity_address("a/b")
    '/identity?pid=a%2Fb'
    """
    return f"/identity?{urlencode({'pid': pid})}"


def sentence(text: str) -> str:
    """A text with a capital at its beginning.

    >>> sentence("merged a into b")
    'Merged a into b'
    """
    return text[:1].upper() + text[1:]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("svllreid.web.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (when, iso, percent, one_in, size, described, identity_address, sentence)
    environment.filters.update({function.__name__: function for function in filters})
    environment.filters["grouped"] = lambda number: f"{number:,}"
    environment.globals["version"] = __version__
    return environment


ENVIRONMENT = _environment()


def page(request: Request, template: str, section: str = "", status: int = 200, **values: Any) -> HTMLResponse:
    """A page.

    Args:
        request: whose page it is; its state holds what forms and the header need.
        template: the name of its template, without the suffix.
        section: the entry of the menu that it belongs to.
        status: the HTTP status.
        values: what the template shows.
    """
    text = ENVIRONMENT.get_template(f"{template}.html.j2").render(request=request, section=section, **values)
    return HTMLResponse(text, status)


def error_page(request: Request, status: int, title: str = "", detail: str = "") -> HTMLResponse:
    """The page that says what went wrong and what to do.

    Args:
        request: what failed.
        status: the HTTP status.
        title: a few words; empty: those that usually go with the status.
        detail: a sentence about this request; may be empty.
    """
    usual = 500 if status >= 500 else 400
    advice = ADVICE.get(status, ADVICE[usual])
    text = sentence(detail) + ("." if detail and detail[-1] not in ".!?" else "")
    heading = title or _TITLES.get(status, _TITLES[usual])
    return page(request, "error", "", status, status_code=status, heading=heading, detail=text, advice=advice)

"""Who may do what: the token, sessions, forged requests, and the headers that keep a browser careful."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import re
from collections.abc import Awaitable, Callable
from html import escape
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from svllreid.web.access.rates import client_of
from svllreid.web.access.sessions import SESSION_SECONDS, Guard, Session
from svllreid.web.errors import Refusal

logger = logging.getLogger(__name__)

COOKIE = "svllreid"
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
OPEN = re.compile(r"/(healthz|readyz|login|static/.*|favicon\.ico)")
"""The paths that need no token."""
API = re.compile(r"/(api/.*|healthz|readyz|metrics)")
"""The paths that answer programs: with JSON, and 401 instead of a login page."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=(), payment=()",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_ONWARD = '<!doctype html><title>svllreid</title><meta http-equiv="refresh" content="0;url={0}"><a href="{0}">Go on</a>'
"""Loads the same address again, from this site, so that the browser sends its cookie."""
_PAUSE = 60.0  # seconds between two parts of a request
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
Refuse = Callable[[Request, Exception], Response]


def sign_in(request: Request, token: str) -> bool:
    """Give the browser a session if the token is right; whether it was.

    Raises: Refusal: too many wrong tokens.
    """
    guard: Guard = request.state.guard
    if not guard.token or not guard.knows(token, client_of(_address(request.scope))):
        return False
    request.state.new_session = guard.new_session(signed_in=True)
    return True


def sign_out(request: Request) -> None:
    """Give the browser a session without rights."""
    request.state.new_session = request.state.guard.new_session()


def safe_next(path: str) -> str:
    """Where to go after signing in: a path of this server, or its first page.

    >>> safe_next("/identities/anna?page=2"), safe_next("//example.com"), safe_next("https://example.com/")
    ('/identities/anna?page=2', '/', '/')
    """
    local = re.fullmatch(r"/(?![/\\])[^\\\x00-\x20]*", path)
    return path if local else "/"


async def check_not_forged(request: Request) -> None:
    """A dependency of all routes: a request that changes something comes from our own page, or from no browser.

    Raises: Refusal: the form lacks the text that only our pages know.
    """
    if request.method in _SAFE or request.state.bearer:
        return
    given = request.headers.get(CSRF_HEADER, "")
    if not given and request.headers.get("content-type", "").partition(";")[0].strip().lower() in _FORMS:
        field = (await request.form()).get(CSRF_FIELD, "")
        given = field if isinstance(field, str) else ""
    if given and hmac.compare_digest(given.encode(), request.state.csrf.encode()):
        return
    # Browsers send an origin with every such request, so this is a program on this machine.
    browser = any(request.headers.get(name) for name in ("origin", "sec-fetch-site", "cookie"))
    if browser or request.state.guard.token:
        raise Refusal(403, "this form is too old, or not from this server; load the page again and repeat")


class GuardMiddleware:
    """Lets requests in: by rate, token and origin; sets the session's cookie and the headers of all answers.

    Args:
        app: what is guarded.
        guard: the token and the sessions.
        refuse: makes the response to a request that is refused or that failed.
        request_bytes: of the largest request.
        most: requests that are handled at the same time; more are refused.
    """

    def __init__(self, app: ASGIApp, guard: Guard, refuse: Refuse, request_bytes: int, most: int) -> None:
        self.app, self.guard, self.refuse, self.request_bytes, self.most = app, guard, refuse, request_bytes, most
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        state, guard = request.state, self.guard
        session = guard.session(_cookie(request.headers))
        state.guard, state.new_session, state.bearer, state.started = guard, None, False, False
        if session is None:
            if guard.token and _comes_from_elsewhere(request.headers):
                await HTMLResponse(_ONWARD.format(escape(safe_next(_local(request)))))(
                    scope, receive, self._answering(request, send)
                )
                return
            session = guard.new_session()
            state.new_session = None if API.fullmatch(scope["path"]) else session
        state.csrf, state.signed_in, state.needs_token = guard.csrf(session), session.signed_in, bool(guard.token)
        answer = self._answering(request, send)
        try:
            self._check(request, session)
        except Refusal as error:
            browser = error.status == 401 and request.method in _SAFE and not API.fullmatch(scope["path"])
            response = _to_login(request) if browser else self.refuse(request, error)
            await response(scope, receive, answer)
            return
        self.active += 1
        try:
            await self.app(scope, _timed(receive), answer)
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            logger.warning("a request that took too long was cut off, as the server ends")
            if state.started:
                raise
            await self.refuse(request, Refusal(503, "the server ends; try again later", 60))(scope, receive, answer)
        except Exception as error:
            logger.exception("a request failed")
            if state.started:
                raise
            await self.refuse(request, error)(scope, receive, answer)
        finally:
            self.active -= 1

    def _check(self, request: Request, session: Session) -> None:
        client = client_of(_address(request.scope))
        path, headers = request.scope["path"], request.headers
        if path != "/healthz" and (wait := self.guard.rate.wait(client)):
            raise Refusal(429, "too many requests; wait a little", math.ceil(wait))
        if self.active >= self.most and not OPEN.fullmatch(path):
            raise Refusal(503, "the server is busy; try again in a few seconds", 2)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.request_bytes:
            raise Refusal(413, f"the request is larger than {self.request_bytes >> 20} MiB; send less at once")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.guard.token:
            request.state.bearer = self.guard.knows(token.strip(), client)
            if not request.state.bearer:
                raise Refusal(401, "the token is wrong")
        if not request.state.bearer:
            if self.guard.token and not session.signed_in and not OPEN.fullmatch(path):
                raise Refusal(401, "give the token: Authorization: Bearer …")
            if request.method not in _SAFE:
                _check_origin(headers)

    def _answering(self, request: Request, send: Send) -> Callable[[Message], Awaitable[None]]:
        """Sends responses on, with the headers and the cookie."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.state.started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if (session := request.state.new_session) is not None:
                    secure = "; Secure" if request.url.scheme == "https" else ""
                    headers.append(
                        "Set-Cookie",
                        f"{COOKIE}={self.guard.cookie(session)}; Path=/; HttpOnly; SameSite=Strict; "
                        f"Max-Age={SESSION_SECONDS}{secure}",
                    )
            await send(message)

        return answer


def _timed(receive: Receive) -> Receive:
    """Gives up a client that stops in the middle of its request."""
    whole = False

    async def timed() -> Message:
        nonlocal whole
        if whole:  # what is waited for now is the end of the connection
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), _PAUSE)
        except TimeoutError:
            raise HTTPException(408, "the request stopped in the middle; send it again") from None
        whole = not message.get("more_body", False)
        return message

    return timed


def _check_origin(headers: Headers) -> None:
    """Refuses what a browser sends for another site."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign or site not in ("same-origin", "none"):
        raise Refusal(403, "this request came from another site")


def _comes_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser follows a link on another site, for which it leaves out a cookie that is SameSite=Strict."""
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") == "navigate"


def _to_login(request: Request) -> RedirectResponse:
    return RedirectResponse(f"/login?next={quote(_local(request))}", status_code=303)


def _local(request: Request) -> str:
    """Path and query of a request."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""

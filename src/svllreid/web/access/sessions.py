"""The token, and sessions of browsers that gave it: signed, so that nobody can make one up."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from dataclasses import dataclass

from svllreid.web.access.rates import RateLimit
from svllreid.web.errors import Refusal

SESSION_SECONDS = 12 * 3600
LEAST_TOKEN = 16
"""The fewest characters of a token."""


@dataclass(frozen=True)
class Session:
    """What the cookie of a browser says.

    Args:
        id: a random text.
        signed_in: whether the token was given.
        issued: when the cookie was made, in seconds since 1970.
    """

    id: str
    signed_in: bool
    issued: int


class Guard:
    """Knows the token, and signs sessions.

    Args:
        token: what clients have to give; empty: none, for a server that only this machine reaches.
        key: 32 secret bytes that signatures are made with.
        rate: of requests by client.
    """

    def __init__(self, token: str, key: bytes, rate: RateLimit) -> None:
        self.token, self.rate = token, rate
        # Another token ends all sessions.
        self.key = hmac.digest(key, token.encode(), "sha256")
        self.tries = RateLimit(rate=1 / 12, burst=5)

    def new_session(self, *, signed_in: bool = False) -> Session:
        """A session with a fresh id."""
        return Session(secrets.token_hex(16), signed_in, int(time.time()))

    def cookie(self, session: Session) -> str:
        """The signed text of a session."""
        text = f"{session.id}.{int(session.signed_in)}.{session.issued}"
        return f"{text}.{self.signature('session', text)}"

    def session(self, cookie: str) -> Session | None:
        """The session of a signed text; None where it is forged or too old."""
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self.signature("session", text).encode()):
            return None
        session_id, signed_in, issued = text.split(".")
        age = time.time() - int(issued)
        return Session(session_id, signed_in == "1", int(issued)) if age < SESSION_SECONDS else None

    def csrf(self, session: Session) -> str:
        """What forms of this session carry, which other sites cannot know."""
        return self.signature("csrf", session.id)

    def signature(self, purpose: str, text: str) -> str:
        """64 hexadecimal digits that only this server can make of a text."""
        return hmac.new(self.key, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()

    def knows(self, token: str, client: str) -> bool:
        """Whether this is the token, compared in constant time.

        Raises: Refusal: the client has tried wrong ones too often.
        """
        if wait := self.tries.wait(client, cost=0):
            raise Refusal(429, "too many wrong tokens; wait a minute", math.ceil(wait))
        right = hmac.compare_digest(_digest(token), _digest(self.token))
        if not right:
            self.tries.wait(client)
        return right


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

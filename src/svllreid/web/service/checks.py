"""Texts and numbers of requests, checked before the gallery sees them."""

from __future__ import annotations

from collections.abc import Iterable

from svllreid.errors import GalleryError
from svllreid.gallery.conditions import Conditions, moment, moment_before
from svllreid.gallery.crop import MAX_BYTES, MAX_TAGS, TAG_END, clean_tags
from svllreid.types import UNKNOWN
from svllreid.web.errors import Refusal
from svllreid.web.service.records import RemovalConditions, SearchOptions

LARGEST = 2**31 - 1
_LAST_TIME = 1e12  # about the year 33,000


def clean_text(text: str, what: str, most: int) -> str:
    """A text without spaces around it. Refusal where it is too long, or not printable.

    Args:
        text: of the request.
        what: what the message calls it.
        most: bytes of UTF-8.
    """
    text = text.strip()
    if text and not text.isprintable():
        raise Refusal(422, f"the {what} has characters that cannot be shown; give another one")
    if len(text.encode()) > most:
        raise Refusal(422, f"the {what} is too long; {most} bytes are possible")
    return text


def clean_name(name: str) -> str:
    """The name of an identity. Refusal where it is empty, too long or not printable."""
    name = clean_text(name, "name", MAX_BYTES["pid"])
    if not name:
        raise Refusal(422, "a name is missing; give one")
    return name


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags, sorted. Refusal where one cannot be stored, or there are too many."""
    cleaned = clean_tags([tag for tag in (clean_text(tag, "tag", MAX_BYTES["tag"]) for tag in tags) if tag])
    if len(cleaned) > MAX_TAGS or any(TAG_END in tag for tag in cleaned):
        raise Refusal(422, f"give {MAX_TAGS} tags at most, none with {TAG_END}")
    return cleaned


def checked_camera(camid: int | None) -> int:
    """The number of a camera, UNKNOWN (-1) where there is none. Refusal where it cannot be stored."""
    camid = UNKNOWN if camid is None else camid
    if not UNKNOWN <= camid <= LARGEST:
        raise Refusal(422, f"the camera {camid} is out of range; cameras are numbered from 0")
    return camid


def checked_time(text: str, what: str = "time") -> float | None:
    """A time in seconds since 1970; None where the text is empty. Refusal where it is none."""
    text = clean_text(text, what, 100)
    if not text:
        return None
    try:
        seconds = moment(text)
    except GalleryError as error:
        raise Refusal(422, f"{what}: {error}") from None
    if seconds is None or abs(seconds) > _LAST_TIME:
        raise Refusal(422, f"the {what} is out of range")
    return seconds


def search_filter(options: SearchOptions) -> Conditions:
    """Which crops may be hits. Refusal where a condition cannot be understood."""
    return Conditions(
        pids=[clean_name(pid) for pid in options.pids] or None,
        camids=[checked_camera(camid) for camid in options.camids] or None,
        not_camids=[checked_camera(camid) for camid in options.not_camids],
        tags=checked_tags(options.tags),
        after=checked_time(options.after, "first time"),
        before=checked_time(options.before, "last time"),
    )


def removal_filter(conditions: RemovalConditions) -> Conditions:
    """Which crops are removed. Refusal where there is no condition, or one cannot be understood."""
    try:
        age = clean_text(conditions.older_than, "age", 20)
        older_than = moment_before(age) if age else None
    except GalleryError as error:
        raise Refusal(422, str(error)) from None
    where = Conditions(
        ids=list(conditions.ids) or None,
        pids=[clean_name(pid) for pid in conditions.pids] or None,
        camids=[checked_camera(camid) for camid in conditions.camids] or None,
        tags=checked_tags(conditions.tags),
        recorded_before=older_than,
    )
    if not where.expression():
        raise Refusal(422, "say which crops to remove: name crops, identities, cameras, tags or an age")
    return where

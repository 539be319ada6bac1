"""Which crops a search, a listing or a removal is about."""

from __future__ import annotations

import math
import re
import time as clock
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from svllreid.errors import GalleryError
from svllreid.gallery.crop import NO_TIME, camera, coded_tags
from svllreid.types import END_TIME, FIRST_TIME, Pid

Moment = float | datetime | str
"""A point in time: seconds since 1970 (UTC), a datetime, or a text in ISO 8601; without a zone it is UTC."""
Age = float | timedelta | str
"""A length of time: seconds, a timedelta, or a text such as 30d, 12h, 90m or 45s."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
# All that need it in the filter language; a file knows no other escapes.
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_SECONDS = re.compile(r"-?\d+(\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class Conditions:
    """The conditions that a crop has to meet, all of them; those that are None or empty are not asked for.

    Args:
        ids, paths, pids, camids: one of these; unknown identities are the pid None, unknown cameras the camid -1.
        not_ids, not_camids: none of these.
        tags: all of these.
        after, before: taken at this time or later, and before that time. Crops without a time meet neither.
        recorded_before: taken before this time; where that is unknown, added before it.
    Example:
        >>> Conditions(pids=["anna", 7], not_camids=[0]).expression()
        'pid in ["anna", "7"] and camid not in [0]'
    """

    ids: Iterable[str] | None = None
    paths: Iterable[str] | None = None
    pids: Iterable[Pid | None] | None = None
    camids: Iterable[int] | None = None
    not_ids: Iterable[str] = ()
    not_camids: Iterable[int] = ()
    tags: Iterable[str] = ()
    after: float | None = None
    before: float | None = None
    recorded_before: float | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "paths", "pids", "camids", "not_ids", "not_camids", "tags"):
            values = getattr(self, name)
            if values is not None:  # an iterator could be gone through only once
                object.__setattr__(self, name, tuple(values))

    def expression(self, *, coded: bool = False) -> str:
        """The conditions in Milvus' filter language; empty where there are none.

        `coded` says that tags are stored as `coded_tags` makes them, instead of as lists.
        """
        parts = []
        pids = None if self.pids is None else ["" if pid is None else str(pid) for pid in self.pids]
        camids = None if self.camids is None else map(camera, self.camids)
        for name, values in (("id", self.ids), ("path", self.paths), ("pid", pids), ("camid", camids)):
            if values is not None:
                parts.append(f"{name} in {_listed(values)}")
        for name, excluded in (("id", self.not_ids), ("camid", list(map(camera, self.not_camids)))):
            if excluded:
                parts.append(f"{name} not in {_listed(excluded)}")
        for tag in self.tags:
            pattern = f"%{coded_tags([_unicode(tag)])}%"
            parts.append(f"tags like {_text(pattern)}" if coded else f"array_contains(tags, {_text(tag)})")
        if self.after is not None:
            parts.append(f"time >= {_number(self.after)}")
        if self.before is not None:
            parts.append(f"time > {NO_TIME!r} and time < {_number(self.before)}")
        if self.recorded_before is not None:
            moment = _number(self.recorded_before)
            known, unknown = f"time > {NO_TIME!r} and time < {moment}", f"time == {NO_TIME!r} and added < {moment}"
            parts.append(f"(({known}) or ({unknown}))")
        return " and ".join(parts)


def moment(value: Moment | None) -> float | None:
    """A point in time as seconds since 1970; None stays None.

    >>> moment("2026-05-01T12:30:00+02:00"), moment("1970-01-02"), moment(12)
    (1777631400.0, 86400.0, 12.0)

    Raises: GalleryError: a text of another form, or a number beyond the years 1 to 9999.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = float(value) if _SECONDS.fullmatch(value) else datetime.fromisoformat(value)
        if isinstance(value, datetime):
            value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise GalleryError(
            f"the time {value!r} is neither seconds since 1970 nor a date and time in ISO 8601, such as "
            "2026-05-01T12:30:00+02:00"
        )
    if not FIRST_TIME <= number < END_TIME:
        raise GalleryError(
            f"the time {value!r} is beyond the years 1 to 9999; give seconds since 1970, not milliseconds"
        )
    return number


def moment_before(age: Age) -> float:
    """The point in time that lies this long ago, in seconds since 1970.

    Raises: GalleryError: a text of another form, or a negative length.
    """
    if isinstance(age, timedelta):
        seconds = age.total_seconds()
    elif isinstance(age, str):
        match = _AGE.fullmatch(age)
        seconds = float(match[1]) * _UNITS[match[2]] if match else math.nan
    else:
        seconds = float(age)
    if not seconds >= 0:
        raise GalleryError(f"the age {age!r} is no length of time; give one such as 30d, 12h, 90m or 45s")
    return max(clock.time() - seconds, FIRST_TIME)  # the filter language knows no infinity


def search_conditions(
    camids: Iterable[int] | int | None = None,
    not_camids: Iterable[int] | int | None = None,
    after: Moment | None = None,
    before: Moment | None = None,
    tags: Iterable[str] | str = (),
    pids: Iterable[Pid | None] | Pid | None = None,
) -> Conditions:
    """The conditions of a search, see `Gallery.search`. GalleryError where `before` is no later than `after`."""
    first, end = moment(after), moment(before)
    if first is not None and end is not None and end <= first:
        raise GalleryError(f"no time lies after {after} and before {before}; give a later end")
    return Conditions(
        pids=listed(pids),
        camids=listed(camids),
        not_camids=listed(not_camids) or (),
        tags=[tags] if isinstance(tags, str) else list(tags),
        after=first,
        before=end,
    )


def listed(given: Any) -> list[Any] | None:
    """One value or several as a list; None stays None."""
    if given is None:
        return None
    return [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)


def _text(value: str) -> str:
    """A text as a literal."""
    return f'"{_unicode(value).translate(_ESCAPES)}"'


def _unicode(value: str) -> str:
    """The text itself. GalleryError where it is not Unicode, which no stored text is."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise GalleryError(f"{value!a} is not Unicode; no crop in a gallery has such a text") from None
    return value


def _number(value: float) -> str:
    return repr(float(value))


def _listed(values: Iterable[Any]) -> str:
    return f"[{', '.join(_text(value) if isinstance(value, str) else str(value) for value in values)}]"

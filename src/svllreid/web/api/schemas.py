"""The bodies and parameters of the API's requests, and those of its answers that are no records of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import Form, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from svllreid.web.access.security import CSRF_FIELD
from svllreid.web.errors import Refusal
from svllreid.web.service.checks import LARGEST
from svllreid.web.service.records import IdentitySummary, SearchOptions, ShownCrop, Verdict
from svllreid.web.service.searches import MOST_HITS
from svllreid.web.service.uploads import Box

Camera = Annotated[int, Field(ge=-1, le=LARGEST)]
Name = Annotated[str, Field(max_length=512)]
Time = Annotated[str, Field(max_length=100)]
CropId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Rate = Annotated[float, Field(gt=0, le=1)]


class Body(BaseModel):
    """A body of a request; fields that are not known are refused."""

    model_config = ConfigDict(extra="forbid")


class Options(Body):
    """How is searched, and which crops may be hits; see `svllreid.web.service.records.SearchOptions`."""

    k: Annotated[int, Field(ge=1, le=MOST_HITS, description="number of hits")] = 24
    camid: list[Camera] = []
    not_camid: list[Camera] = []
    after: Annotated[Time, Field(description="taken then or later: ISO 8601, or seconds since 1970")] = ""
    before: Annotated[Time, Field(description="taken before then")] = ""
    tag: list[Name] = []
    pid: list[Name] = []
    combine: Literal["mean", "best"] = "mean"
    group_by: Literal["pid", "tracklet"] | None = None
    rerank: bool = False
    false_accept_rate: Rate | None = None

    def options(self) -> SearchOptions:
        """As the service takes them."""
        return SearchOptions(
            self.k,
            tuple(self.camid),
            tuple(self.not_camid),
            self.after,
            self.before,
            tuple(self.tag),
            tuple(self.pid),
            self.combine,
            self.group_by,
            self.rerank,
            self.false_accept_rate,
        )


class WordsSearch(Options):
    """A search by words."""

    text: Annotated[str, Field(min_length=1, max_length=500)]


def options_of_query(options: Annotated[Options, Query()]) -> SearchOptions:
    """The options in an address."""
    return options.options()


def options_of_form(
    k: Annotated[int, Form(ge=1, le=MOST_HITS)] = 24,
    camid: Annotated[list[Camera] | None, Form()] = None,
    not_camid: Annotated[list[Camera] | None, Form()] = None,
    after: Annotated[Time, Form()] = "",
    before: Annotated[Time, Form()] = "",
    tag: Annotated[list[Name] | None, Form()] = None,
    pid: Annotated[list[Name] | None, Form()] = None,
    combine: Annotated[Literal["mean", "best"], Form()] = "mean",
    group_by: Annotated[Literal["pid", "tracklet"] | None, Form()] = None,
    rerank: Annotated[bool, Form()] = False,
    false_accept_rate: Annotated[Rate | None, Form()] = None,
) -> SearchOptions:
    """The options in a form with pictures."""
    several: dict[str, Any] = {"camid": camid or [], "not_camid": not_camid or [], "tag": tag or [], "pid": pid or []}
    return Options(
        k=k,
        after=after,
        before=before,
        combine=combine,
        group_by=group_by,
        rerank=rerank,
        false_accept_rate=false_accept_rate,
        **several,
    ).options()


def fields_of_form(*names: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses fields of a form, and values in its address, that a route does not know.

    Args:
        names: of the fields that it knows.
    """

    async def check(request: Request) -> None:
        known = (*names, CSRF_FIELD)
        for name in (await request.form()).keys() - set(known):
            raise Refusal(422, f"{name}: there is no such field; the fields are {', '.join(names)}")
        for name in request.query_params:
            raise Refusal(422, f"{name}: it stands in the address; send it as a field of the form")

    return check


def box_of(text: str) -> Box | None:
    """A box x1,y1,x2,y2; None where the text is empty.

    >>> box_of("10,20,50.5,120"), box_of("")
    ((10.0, 20.0, 50.5, 120.0), None)
    """
    if not text.strip():
        return None
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise Refusal(422, "a box is four numbers x1,y1,x2,y2 in pixels") from None
    return x1, y1, x2, y2


class Merge(Body):
    """Identities to merge; `into` is the name of the result, that of the first one where it is empty."""

    pids: Annotated[list[Name], Field(min_length=1, max_length=1000)]
    into: Name = ""


class Split(Body):
    """Crops to make an identity of their own; without a name one is made."""

    crops: Annotated[list[CropId], Field(min_length=1, max_length=10_000)]
    name: Name = ""


class Rename(Body):
    """An identity and its new name."""

    pid: Name
    name: Name


class Undo(Body):
    """The number of the change to take back, the latest one; without it the latest one, whichever that is."""

    number: int | None = None


class Judgement(Body):
    """Whether two crops show the same identity."""

    answer: Verdict


class Removed(BaseModel):
    """How many crops were removed."""

    removed: int


class RemovalRequest(Body):
    """Which crops to remove: those that meet all conditions that are given, at least one."""

    ids: Annotated[list[CropId], Field(max_length=10_000)] = []
    pids: Annotated[list[Name], Field(max_length=1000)] = []
    camids: list[Camera] = []
    tags: list[Name] = []
    older_than: Annotated[str, Field(max_length=20, description="such as 30d, 12h or 90m")] = ""


class IdentityList(BaseModel):
    """Some identities, and how many there are."""

    identities: list[IdentitySummary]
    total: int


class Identity(BaseModel):
    """An identity with its crops, sorted by time."""

    pid: str
    crops: list[ShownCrop]


class Status(BaseModel):
    """Whether the server works."""

    status: str


class Fault(BaseModel):
    """Why a request was refused."""

    detail: str

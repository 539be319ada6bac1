"""The JSON API, `/api/v1`: each route calls the service."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Path, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse

from svllreid.web.access.security import check_not_forged
from svllreid.web.api import schemas
from svllreid.web.service import records, uploads
from svllreid.web.service.checks import LARGEST
from svllreid.web.service.service import Service

FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Fault, "description": text}
    for status, text in (
        (400, "The request cannot be read"),
        (401, "The token is missing or wrong"),
        (403, "The request came from another site"),
        (404, "There is no such thing"),
        (409, "It was changed meanwhile"),
        (413, "Too large"),
        (415, "No picture that is read here"),
        (422, "A value cannot be used"),
        (429, "Too many requests"),
        (503, "The server is busy"),
    )
}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "A picture"}}
_ZIP: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}, "description": "An archive"}}
_PRIVATE = {"Cache-Control": "private, max-age=600"}
Pictures = Annotated[list[UploadFile], File(description="a picture; may be repeated")]
CropId = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
QueryId = Annotated[str, Path(max_length=80)]


def the_service(request: Request) -> Service:
    """The service of the application."""
    return request.app.state.service


Using = Annotated[Service, Depends(the_service)]
InAddress = Annotated[records.SearchOptions, Depends(schemas.options_of_query)]
InForm = Annotated[records.SearchOptions, Depends(schemas.options_of_form)]
api = APIRouter(prefix="/api/v1", responses=FAULTS, dependencies=[Depends(check_not_forged)])


_SEARCH_FIELDS = schemas.fields_of_form("image", "box", "also", *schemas.Options.model_fields)
_ADD_FIELDS = schemas.fields_of_form("image", "pid", "camid", "time", "tracklet", "tag")


@api.post("/search", tags=["search"], dependencies=[Depends(_SEARCH_FIELDS)])
def search(
    service: Using,
    options: InForm,
    image: Pictures,
    box: Annotated[list[str] | None, Form(description="x1,y1,x2,y2 in pixels, one for each picture, or empty")] = None,
    also: Annotated[str, Form(max_length=80, description="a query whose pictures come first")] = "",
) -> records.Answer:
    """Search with one or several pictures of one person or vehicle. The answer has the id of the kept query."""
    contents = uploads.read(image, service.limits, service.limits.query_pictures)
    boxes = [schemas.box_of(text) for text in box or ()]
    return service.searches.search(service.searches.keep_pictures(contents, boxes, also).id, options)


@api.post("/search/words", tags=["search"])
def search_words(service: Using, body: schemas.WordsSearch) -> records.Answer:
    """Search by words."""
    return service.searches.search(service.searches.keep_words(body.text).id, body.options())


@api.get("/queries/{query_id}", tags=["search"])
def query(service: Using, query_id: QueryId) -> records.Query:
    """A kept query."""
    return service.searches.query(query_id)


@api.get("/queries/{query_id}/hits", tags=["search"])
def hits(service: Using, query_id: QueryId, options: InAddress) -> records.Answer:
    """Search again with a kept query."""
    return service.searches.search(query_id, options)


@api.get("/queries/{query_id}/pictures/{number}", tags=["search"], responses=_JPEG, response_class=Response)
def query_picture(service: Using, query_id: QueryId, number: Annotated[int, Path(ge=0, le=1000)]) -> Response:
    """A small picture of a kept query."""
    return Response(service.searches.queries.picture(query_id, number), media_type="image/jpeg", headers=_PRIVATE)


@api.delete("/queries/{query_id}", tags=["search"], status_code=204)
def forget_query(service: Using, query_id: QueryId) -> None:
    """Delete a kept query."""
    service.searches.queries.forget(query_id)


@api.get("/crops/{crop_id}", tags=["crops"])
def crop(service: Using, crop_id: CropId) -> records.ShownCrop:
    """A crop of the gallery."""
    return service.crop(crop_id)


@api.get("/crops/{crop_id}/picture", tags=["crops"], responses=_JPEG, response_class=Response)
def crop_picture(service: Using, crop_id: CropId, small: bool = False) -> Response:
    """The picture of a crop; a small one fits into 128 x 256 pixels."""
    return Response(service.crop_picture(crop_id, small=small), media_type="image/jpeg", headers=_PRIVATE)


@api.get("/crops/{crop_id}/similar", tags=["crops"])
def similar(service: Using, crop_id: CropId, options: InAddress) -> records.Answer:
    """Search with a crop of the gallery."""
    return service.searches.search(service.searches.query_of_crop(crop_id).id, options)


@api.get("/identities", tags=["identities"])
def identities(
    service: Using,
    contains: Annotated[str, Query(max_length=512)] = "",
    offset: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 60,
) -> schemas.IdentityList:
    """Identities, sorted by name."""
    found, total = service.identities(contains, offset, limit)
    return schemas.IdentityList(identities=found, total=total)


@api.get("/identity", tags=["identities"])
def identity(service: Using, pid: Annotated[str, Query(max_length=512)]) -> schemas.Identity:
    """An identity with its crops across all cameras."""
    return schemas.Identity(pid=pid, crops=service.identity(pid))


@api.post("/identities/merge", tags=["identities"])
def merge(service: Using, body: schemas.Merge) -> records.Change:
    """Make one identity of several."""
    return service.changing.merge(body.pids, body.into)


@api.post("/identities/split", tags=["identities"])
def split(service: Using, body: schemas.Split) -> records.Change:
    """Make crops an identity of their own."""
    return service.changing.split(body.crops, body.name)


@api.post("/identities/rename", tags=["identities"])
def rename(service: Using, body: schemas.Rename) -> records.Change:
    """Give an identity another name."""
    return service.changing.rename(body.pid, body.name)


@api.get("/changes", tags=["identities"])
def changes(service: Using, limit: Annotated[int, Query(ge=1, le=500)] = 20) -> list[records.Change]:
    """The latest changes, the last one first."""
    return service.journal.changes(limit)


@api.post("/changes/undo", tags=["identities"])
def undo(service: Using, body: schemas.Undo) -> records.Change:
    """Take back the latest change."""
    return service.changing.undo(body.number)


@api.get("/review/next", tags=["review"])
def next_pair(service: Using) -> records.Pair | None:
    """The next two crops to judge; null where nothing is doubtful."""
    return service.next_pair()


@api.post("/review/{pair_id}", tags=["review"])
def answer_pair(
    service: Using, pair_id: Annotated[str, Path(max_length=80)], body: schemas.Judgement
) -> records.Change:
    """Say whether two crops show the same identity."""
    return service.answer_pair(pair_id, body.answer)


@api.get("/identities.zip", tags=["review"], responses=_ZIP, response_class=StreamingResponse)
def archive(service: Using) -> StreamingResponse:
    """All crops that have an identity, with a manifest that `svllreid train` reads."""
    return archive_response(service)


def archive_response(service: Service) -> StreamingResponse:
    """The identities as a file to save."""
    saved = {"Content-Disposition": 'attachment; filename="identities.zip"'}
    return StreamingResponse(service.archive().parts(), media_type="application/zip", headers=saved)


@api.post("/gallery/images", tags=["gallery"], status_code=202, dependencies=[Depends(_ADD_FIELDS)])
def add(
    service: Using,
    image: Pictures,
    pid: Annotated[str, Form(max_length=512)] = "",
    camid: Annotated[int | None, Form(ge=-1, le=LARGEST)] = None,
    time: Annotated[str, Form(max_length=100)] = "",
    tracklet: Annotated[str, Form(max_length=512)] = "",
    tag: Annotated[list[schemas.Name] | None, Form()] = None,
) -> records.AddJob:
    """Add pictures in the background; the labels are those of all of them."""
    contents = uploads.read(image, service.limits, service.limits.add_pictures)
    labels: dict[str, Any] = {"pid": pid, "camid": camid, "time": time, "tracklet": tracklet, "tags": tag or []}
    return service.stock.start_adding(contents, **labels)


@api.get("/jobs/{job_id}", tags=["gallery"])
def add_job(service: Using, job_id: Annotated[str, Path(max_length=80)]) -> records.AddJob:
    """How far an adding is."""
    return service.stock.adding.job(job_id)


@api.post("/gallery/removals", tags=["gallery"])
def plan_removal(service: Using, body: schemas.RemovalRequest) -> records.Removal:
    """Say which crops would be removed. Nothing is removed before that is confirmed."""
    conditions = (tuple(body.ids), tuple(body.pids), tuple(body.camids), tuple(body.tags), body.older_than)
    return service.stock.plan_removal(records.RemovalConditions(*conditions))


@api.post("/gallery/removals/{confirmation}", tags=["gallery"])
def remove(service: Using, confirmation: Annotated[str, Path(max_length=80)]) -> schemas.Removed:
    """Remove the crops that a confirmation names."""
    return schemas.Removed(removed=service.stock.remove(confirmation))


@api.get("/facets", tags=["gallery"])
def facets(service: Using) -> records.Facets:
    """What searches can be filtered by."""
    return service.facets()


@api.get("/about", tags=["gallery"])
def about(service: Using) -> records.About:
    """The gallery, the model and the calibration in use."""
    return service.about()

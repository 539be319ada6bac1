"""Crops with their vectors in Milvus: in a file on this machine (Milvus Lite), or on a server or cluster."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svllreid.errors import GalleryError
from svllreid.files import user_path
from svllreid.gallery.conditions import Conditions
from svllreid.gallery.crop import MAX_BYTES, MAX_CODED_TAGS, MAX_TAGS, Crop, coded_tags
from svllreid.gallery.database_file import SUFFIX, DatabaseFile
from svllreid.gallery.pymilvus_library import TOKEN, load_pymilvus, one_message
from svllreid.gallery.record import INDEXES, GalleryRecord

if TYPE_CHECKING:
    from pymilvus import MilvusClient

MAX_HITS = 16_384
"""The most hits that one search can have, a limit of Milvus."""
NEXT, OLD = "_next", "_old"
"""What follows a gallery's name in those of the collections that replace it, and that it replaced."""
_RECORD = "svllreid.gallery"
_FIELDS = ["id", "path", "pid", "numeric", "camid", "time", "tracklet", "tags", "added"]
_PAGE = 2048  # rows that are read at once
_QUERIES = 64  # at once; by distances a file computes all differences, so there it is one
_ANSWER_BYTES = 2**25  # vectors of more are read apart, as a server sends 64 MiB at most in one answer
_LENGTH = 0.01  # by which the length of a normalised vector may be off; that of half precision is by 0.001
_MANY = 4096  # added rows that a server is asked to index at once


def is_server(uri: str | os.PathLike[str]) -> bool:
    """Whether a gallery's address is that of a server, and not a file."""
    return "://" in os.fspath(uri)


def is_gallery(source: str | os.PathLike[str]) -> bool:
    """Whether this is the address of a gallery, and not of a file or folder of something else."""
    return is_server(source) or Path(source).suffix == SUFFIX


class MilvusStore:
    """A collection of crops with their vectors, in a file or on a server.

    Args:
        uri: a file (which Milvus Lite makes a folder) that ends in .db, or a server such as http://localhost:19530.
        name: of the collection; a server can hold several galleries.
        token: of a server; None takes it from the environment variable MILVUS_TOKEN.
        wait: wait until no other process has the file open, instead of raising an error.
        timeout: seconds after which a server that does not answer is given up.
        must_exist: refuse a file that is not there, instead of making it.
    Raises: GalleryError: pymilvus is missing, the file is in use or damaged, or the server refuses or does not answer.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        name: str = "crops",
        *,
        token: str | None = None,
        wait: bool = False,
        timeout: float = 30,
        must_exist: bool = False,
    ) -> None:
        self.name, self.timeout, self.closed = name, timeout, False
        if not name.isidentifier() or not name.isascii():
            raise GalleryError(f"a gallery cannot be named {name!r}; give letters, digits and _, no digit first")
        if name.endswith((NEXT, OLD)):
            raise GalleryError(
                f"a gallery cannot be named {name!r}: names in {NEXT} and {OLD} are those of unfinished ones"
            )
        token = os.environ.get(TOKEN, "") if token is None else token
        self.server = is_server(uri)
        self.uri = os.fspath(uri) if self.server else str(user_path(uri).absolute())
        milvus_client = load_pymilvus().MilvusClient
        path = Path(self.uri)
        self.file = None if self.server else DatabaseFile(path, wait=wait, must_exist=must_exist)
        try:
            with self._errors():
                self.client: MilvusClient = milvus_client(self.uri, token=token if self.server else "", timeout=timeout)
        except BaseException:
            if self.file is not None:
                self.file.close()
            raise

    def named(self, name: str) -> MilvusStore:
        """Another collection in the same file or on the same server, through the same connection."""
        other = copy.copy(self)
        other.name = name
        return other

    def close(self) -> None:
        """Let go of the file, or of the connection."""
        self.client.close()
        self.closed = True
        if self.file is not None:
            self.file.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Refuses a closed gallery, and turns the errors of pymilvus into one message."""
        if self.closed:
            raise GalleryError(f"{self.uri}: the gallery is closed; open it again")
        with one_message(self.uri, server=self.server):
            yield

    def exists(self) -> bool:
        """Whether the collection is there."""
        with self._errors():
            return bool(self.client.has_collection(self.name, timeout=self.timeout))

    def create(self, record: GalleryRecord) -> None:
        """Make the collection, empty. GalleryError where it is there, or the index is unknown."""
        if record.index not in INDEXES:
            raise GalleryError(f"no index is named {record.index!r}; give one of {', '.join(INDEXES)}")
        if self.exists():
            raise GalleryError(f"{self.uri} holds a gallery named {self.name} already; give another file or name")
        types, client = load_pymilvus().DataType, self.client
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        text = {kind: {"datatype": types.VARCHAR, "max_length": size} for kind, size in MAX_BYTES.items()}
        schema.add_field("id", types.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=record.spec.dim)
        for kind in ("path", "pid", "tracklet"):
            schema.add_field(kind, **text[kind])
        schema.add_field("numeric", types.BOOL)
        schema.add_field("camid", types.INT64)
        schema.add_field("time", types.DOUBLE)
        schema.add_field("added", types.DOUBLE)
        if self.server:
            tags = {"element_type": types.VARCHAR, "max_capacity": MAX_TAGS, "max_length": MAX_BYTES["tag"]}
            schema.add_field("tags", types.ARRAY, **tags)
        else:
            schema.add_field("tags", types.VARCHAR, max_length=MAX_CODED_TAGS)
        with self._errors():
            client.create_collection(
                self.name,
                schema=schema,
                properties={_RECORD: record.to_json()},
                consistency_level="Strong",
                num_shards=record.shards,
                timeout=self.timeout,
            )

    def open(self) -> GalleryRecord:
        """Make the collection ready for searches; returns its record. GalleryError where it is no gallery."""
        with self._errors():
            properties = self.client.describe_collection(self.name, timeout=self.timeout).get("properties", {})
            if _RECORD not in properties:
                raise GalleryError(
                    f"{self.uri}: its collection {self.name} is no gallery of svllreid; give another name"
                )
        record = GalleryRecord.from_json(properties[_RECORD], f"{self.uri} ({self.name})")
        with self._errors():
            if not self.client.list_indexes(self.name, timeout=self.timeout):
                self._make_index(record)
            self.client.load_collection(self.name, timeout=max(self.timeout, 600))
        self._record = record
        return record

    def _make_index(self, record: GalleryRecord) -> None:
        """Say how vectors are indexed, when a collection is first opened; its creation may have been killed before."""
        index = self.client.prepare_index_params()
        parameters = dict(INDEXES[record.index]["build"])
        index.add_index("vector", index_type=record.index, metric_type=record.metric, params=parameters)
        self.client.create_index(self.name, index, timeout=self.timeout, sync=False)

    def upsert(self, crops: Sequence[Crop], vectors: np.ndarray) -> None:
        """Store crops with their vectors (n, D) float32; those with a known id are replaced. Stored when it returns.

        Raises: GalleryError: vectors that a search could not compare: of another length, or with NaN or infinity.
        """
        self._check(crops, vectors)
        rows = [crop.to_row(vector) for crop, vector in zip(crops, vectors.astype(np.float32), strict=True)]
        if not self.server:
            rows = [{**row, "tags": coded_tags(row["tags"])} for row in rows]
        with self._errors():
            self.client.upsert(self.name, rows, timeout=self.timeout)

    def relabel(self, changed: Mapping[str, Crop]) -> None:
        """Replace stored crops by others with the same ids, their keys; vectors stay, and unknown ids do nothing."""
        for stored, vectors in self.vectors_of(list(changed)):
            self.upsert([changed[crop.id] for crop in stored], vectors)

    def _check(self, crops: Sequence[Crop], vectors: np.ndarray) -> None:
        spec = self._record.spec
        if vectors.shape != (len(crops), spec.dim):
            raise GalleryError(f"features of shape {vectors.shape} for {len(crops)} crops; give (n, {spec.dim})")
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)  # (n,)
        for faulty, fault in (
            (~np.isfinite(lengths), "NaN or infinity in its features"),
            (spec.normalized & (abs(lengths - 1) > _LENGTH), "features whose length is not 1, as the model's is"),
        ):
            if faulty.any():
                crop = crops[int(faulty.argmax())]
                raise GalleryError(f"{crop.path or crop.id} has {fault}; look at the image, and embed it again")

    def delete(self, ids: Sequence[str]) -> None:
        """Remove crops; no search finds them any more when this returns."""
        with self._errors():
            for start in range(0, len(ids), _PAGE):
                chosen = Conditions(ids=ids[start : start + _PAGE]).expression()
                self.client.delete(self.name, filter=chosen, timeout=self.timeout)

    def count(self, conditions: Conditions = Conditions()) -> int:
        """How many crops meet the conditions."""
        with self._errors():
            rows = self.client.query(
                self.name,
                filter=self._where(conditions),
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=self.timeout,
            )
        return int(rows[0]["count(*)"])

    def search(
        self, vectors: np.ndarray, limit: int, conditions: Conditions = Conditions()
    ) -> list[tuple[list[Crop], np.ndarray]]:
        """For each of some vectors (n, D) the nearest crops, nearest first, with their vectors (≤ limit, D)."""
        at_once = _QUERIES if self.server or self._record.metric == "IP" else 1
        parts = [vectors[start : start + at_once] for start in range(0, len(vectors), at_once)]
        return [hits for part in parts for hits in self._search(part, limit, conditions)]

    def _search(self, vectors: np.ndarray, limit: int, conditions: Conditions) -> list[tuple[list[Crop], np.ndarray]]:
        apart = 4 * vectors.size * min(limit, MAX_HITS) > _ANSWER_BYTES
        with self._errors():
            answers = self.client.search(
                self.name,
                data=list(np.ascontiguousarray(vectors, np.float32)),
                limit=min(limit, MAX_HITS),
                filter=self._where(conditions),
                output_fields=_FIELDS if apart else [*_FIELDS, "vector"],
                search_params={"metric_type": self._record.metric, "params": self._search_params(limit)},
                consistency_level="Session",  # what this process changed counts at once; "Strong" costs 0.4 s
                timeout=self.timeout,
            )
        rows = [[{"id": hit["id"], **hit["entity"]} for hit in hits] for hits in answers]
        if apart:
            known: dict[str, np.ndarray] = {}
            for crops, found in self.vectors_of(list(dict.fromkeys(row["id"] for hits in rows for row in hits))):
                known |= dict(zip([crop.id for crop in crops], found, strict=True))
            # A crop that was removed in between is no hit.
            rows = [[{**row, "vector": known[row["id"]]} for row in hits if row["id"] in known] for hits in rows]
        return [_crops(hits, vectors.shape[1]) for hits in rows]

    def _where(self, conditions: Conditions) -> str:
        return conditions.expression(coded=not self.server)

    def _search_params(self, limit: int) -> dict[str, Any]:
        """The index' parameters; HNSW has to look at no fewer crops than it returns."""
        params = dict(INDEXES[self._record.index]["search"])
        if "ef" in params:
            params["ef"] = max(params["ef"], min(limit, MAX_HITS))
        return params

    def crops(self, conditions: Conditions = Conditions()) -> Iterator[list[Crop]]:
        """The crops that meet the conditions, some at a time."""
        for rows in self._pages(conditions, _FIELDS):
            yield [Crop.from_row(row) for row in rows]

    def crops_with_vectors(self, conditions: Conditions = Conditions()) -> Iterator[tuple[list[Crop], np.ndarray]]:
        """As `crops`, with their vectors (n, D) float32."""
        for rows in self._pages(conditions, [*_FIELDS, "vector"]):
            yield _crops(rows, len(rows[0]["vector"]))

    def _pages(self, conditions: Conditions, fields: list[str]) -> Iterator[list[dict[str, Any]]]:
        with self._errors():
            pages = self.client.query_iterator(
                self.name,
                batch_size=_PAGE,
                filter=self._where(conditions),
                output_fields=fields,
                consistency_level="Strong",
                timeout=self.timeout,
            )
        try:
            while True:
                with self._errors():
                    rows = pages.next()
                if not rows:
                    return
                yield rows
        finally:
            pages.close()

    def vectors_of(self, ids: Sequence[str]) -> Iterator[tuple[list[Crop], np.ndarray]]:
        """Those of the ids that are there, with their vectors, some at a time."""
        for start in range(0, len(ids), _PAGE):
            yield from self.crops_with_vectors(Conditions(ids=ids[start : start + _PAGE]))

    def find(self, ids: Iterable[str]) -> dict[str, Crop]:
        """Those of the ids that are there, with their crops."""
        ids = list(ids)
        found: dict[str, Crop] = {}
        with self._errors():
            for start in range(0, len(ids), _PAGE):
                rows = self.client.query(
                    self.name,
                    filter=self._where(Conditions(ids=ids[start : start + _PAGE])),
                    output_fields=_FIELDS,
                    consistency_level="Strong",
                    timeout=self.timeout,
                )
                found |= {row["id"]: Crop.from_row(row) for row in rows}
        return found

    def settle(self, added: int) -> None:
        """After crops were added: write them to their final place.

        A server does so by itself, limits how often it may be asked to, and is asked only after many.
        """
        if not self.server or added >= _MANY:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time to its final place, and index it."""
        with self._errors():
            self.client.flush(self.name, timeout=max(self.timeout, 600))

    def compact(self) -> None:
        """Have a server drop the removed rows from its files; a file has no such command."""
        with self._errors():
            self.client.compact(self.name, timeout=self.timeout)

    def drop(self) -> None:
        """Remove the collection with everything in it."""
        with self._errors():
            self.client.drop_collection(self.name, timeout=self.timeout)

    def rename(self, new: str) -> None:
        """Give the collection another name."""
        with self._errors():
            self.client.rename_collection(self.name, new, timeout=self.timeout)
        self.name = new


def _crops(rows: list[dict[str, Any]], dim: int) -> tuple[list[Crop], np.ndarray]:
    vectors = np.array([row["vector"] for row in rows], np.float32).reshape(-1, dim)
    return [Crop.from_row(row) for row in rows], vectors

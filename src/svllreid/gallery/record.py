"""What a gallery knows of itself: the model behind its vectors, its index, its thumbnails."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import EvaluationError, GalleryError

INDEXES: dict[str, dict[str, Any]] = {
    "FLAT": {"build": {}, "search": {}},
    "HNSW": {"build": {"M": 32, "efConstruction": 200}, "search": {"ef": 256}},
    "IVF_FLAT": {"build": {"nlist": 256}, "search": {"nprobe": 64}},
    "IVF_SQ8": {"build": {"nlist": 256}, "search": {"nprobe": 64}},
}
"""The indexes that file and server have, with their parameters: exact search first, then approximate ones."""
BESIDE = ".thumbnails"
"""In a record: thumbnails lie beside the gallery's file, in the folder that ends so, wherever both are moved."""
_VERSION = 1


@dataclass(frozen=True)
class GalleryRecord:
    """What a gallery knows of itself.

    Args:
        spec: the record of the model and settings that made its vectors.
        index: one of INDEXES.
        thumbnails: the folder of its thumbnails, or BESIDE; empty where it has none.
        shards: parts into which a server divides what is added, for nodes to share the work; a file has one.
    """

    spec: EmbeddingSpec
    index: str = "FLAT"
    thumbnails: str = ""
    shards: int = 1

    @property
    def metric(self) -> str:
        """By what vectors are compared: of length 1 by inner product, which ranks them as distances do, and faster."""
        return "IP" if self.spec.normalized else "L2"

    def to_json(self) -> str:
        """The record as a text that is stored with the collection."""
        kept = {"index": self.index, "thumbnails": self.thumbnails, "shards": self.shards}
        return json.dumps({"version": _VERSION, "embedding": self.spec.to_dict(), **kept})

    @classmethod
    def from_json(cls, text: str, origin: str) -> GalleryRecord:
        """The record from its text. GalleryError where another version wrote it."""
        try:
            content = json.loads(text)
            if content["version"] != _VERSION:
                raise GalleryError(
                    f"{origin} was made by another version of svllreid (format {content['version']}, here {_VERSION}); "
                    "use that version, or make the gallery anew"
                )
            spec = EmbeddingSpec.from_dict(content["embedding"], origin)
            if content["index"] not in INDEXES or not isinstance(content["thumbnails"], str):
                raise ValueError(f"index {content['index']!r}, thumbnails {content['thumbnails']!r}")
            return cls(spec, content["index"], content["thumbnails"], int(content["shards"]))
        except (ValueError, TypeError, KeyError, EvaluationError) as error:
            raise GalleryError(f"{origin} has a damaged record ({error}); make the gallery anew") from None

"""Queries that are kept for some time, so that a search has an address, also after a restart."""

from __future__ import annotations

import io
import json
import re
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from svllreid.gallery.thumbnails import SIZE
from svllreid.web.errors import Refusal
from svllreid.web.service.folder import write_durably
from svllreid.web.service.records import Query, QueryKind

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
CROP_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
CROP = "crop-"
"""What the id of a query begins with that is a crop of the gallery; it is not kept, as the crop is."""


class KeptQueries:
    """A folder of queries: their features, a small picture of each image, or their words. The images are not kept.

    Args:
        folder: where they lie, a file each.
        seconds: after which a query is forgotten.
        most: queries, about; the oldest ones are forgotten first.
    """

    def __init__(self, folder: Path, seconds: float, most: int) -> None:
        self.folder, self.seconds, self.most = folder, seconds, most
        self.lock = threading.RLock()
        self.kept = 0  # queries since some were deleted
        self.sweep()

    def keep(self, kind: QueryKind, features: np.ndarray, pictures: Sequence[bytes] = (), words: str = "") -> Query:
        """Keep a query with its features (n, D), and its small pictures, JPEG, or its words."""
        with self.lock:
            self.kept += 1
            if self.kept > self.most // 10:
                self.sweep()
        query_id = secrets.token_hex(16)
        now = time.time()
        content = {"kind": kind, "words": words, "pictures": len(pictures), "created": now}
        arrays = {f"picture{number}": np.frombuffer(jpeg, np.uint8) for number, jpeg in enumerate(pictures)}
        file = io.BytesIO()
        np.savez(file, content=np.array(json.dumps(content)), features=features, **arrays)  # type: ignore[arg-type]
        write_durably(self._path(query_id), file.getvalue())
        return Query(query_id, kind, words, "", len(pictures), now, now + self.seconds)

    def get(self, query_id: str) -> tuple[Query, np.ndarray]:
        """A query with its features (n, D) float32. Refusal where it is unknown or was forgotten."""
        with self._open(query_id) as arrays:
            content = json.loads(str(arrays["content"]))
            kind, words, pictures, created = (content[name] for name in ("kind", "words", "pictures", "created"))
            query = Query(query_id, kind, words, "", pictures, created, created + self.seconds)
            return query, arrays["features"]

    def picture(self, query_id: str, number: int) -> bytes:
        """A picture of a query as JPEG. Refusal where there is none."""
        with self._open(query_id) as arrays:
            name = f"picture{number}"
            if name not in arrays:
                raise Refusal(404, "this query has no such picture")
            return arrays[name].tobytes()

    def forget(self, query_id: str) -> None:
        """Delete a query, if it is there."""
        if _ID.fullmatch(query_id):
            self._path(query_id).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete queries that are too old or too many; to be called every now and then, also where nobody searches."""
        with self.lock:
            self.kept, times = 0, list[tuple[float, Path]]()
            for file in self.folder.glob("*.npz"):
                with suppress(FileNotFoundError):  # forgotten meanwhile
                    times.append((file.stat().st_mtime, file))
            limit = time.time() - self.seconds
            for number, (kept_at, file) in enumerate(sorted(times)):
                if number >= len(times) - self.most and kept_at >= limit:
                    break
                file.unlink(missing_ok=True)

    def _path(self, query_id: str) -> Path:
        return self.folder / f"{query_id}.npz"

    def _open(self, query_id: str) -> np.lib.npyio.NpzFile:
        unknown = Refusal(404, "this search is unknown or was forgotten; search again")
        if not _ID.fullmatch(query_id):
            raise unknown
        path = self._path(query_id)
        try:
            if path.stat().st_mtime < time.time() - self.seconds:
                raise unknown
            return np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise unknown from None


def jpeg(image: Image.Image, size: tuple[int, int] | None = SIZE) -> bytes:
    """An RGB image as JPEG, made so small that it fits into `size`, width and height; None leaves it as it is."""
    small = image
    if size is not None:
        small = image.copy()
        small.thumbnail(size)
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=85)
    return file.getvalue()

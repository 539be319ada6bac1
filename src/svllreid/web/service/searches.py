"""Searches: a query is embedded and kept, and then searched for as often as its address is opened."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Protocol

import numpy as np

from svllreid.calibration.calibration import Calibration
from svllreid.errors import EvaluationError, GalleryError
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.gallery import searching
from svllreid.gallery.crop import Crop, Hit
from svllreid.gallery.gallery import Gallery
from svllreid.web.errors import Refusal
from svllreid.web.service.batching import BatchingEncoder
from svllreid.web.service.checks import search_filter
from svllreid.web.service.crops import Crops
from svllreid.web.service.queries import CROP, CROP_ID, KeptQueries, jpeg
from svllreid.web.service.records import Answer, Limits, Query, SearchOptions, ShownCrop, ShownHit
from svllreid.web.service.uploads import Box, cut, decode

MOST_HITS = 200
_MOST_WORDS = 500  # characters of a description


class Words(Protocol):
    """What searches by words need of a `svllreid.TextEncoder`."""

    def queries(self, texts: list[str]) -> np.ndarray:
        """Features (n, D) of texts."""


class Searches:
    """Searches a gallery.

    Args:
        gallery: the gallery.
        crops: its crops.
        batching: embeds pictures.
        queries: keeps queries.
        limits: what the server accepts.
        calibration: what distances mean; None: nothing is decided.
        words: embeds words; None: the model has no text encoder.
    """

    def __init__(
        self,
        gallery: Gallery,
        crops: Crops,
        batching: BatchingEncoder,
        queries: KeptQueries,
        limits: Limits,
        calibration: Calibration | None,
        words: Words | None,
    ) -> None:
        self.gallery, self.crops, self.batching, self.queries = gallery, crops, batching, queries
        self.limits, self.calibration, self.words = limits, calibration, words
        self.words_lock = threading.Lock()

    def keep_pictures(self, contents: Sequence[bytes], boxes: Sequence[Box | None] = (), also: str = "") -> Query:
        """Embed one or several pictures of one person or vehicle, and keep the query.

        Args:
            contents: the files.
            boxes: of each picture the part that is the query, or None: all of it. Empty: all of every picture.
            also: the id of a query by pictures, whose pictures come first.
        Raises: Refusal: a picture or a box cannot be used, or there are too many.
        """
        features, pictures = self._before(also)
        if not len(contents) >= 1 or len(contents) + len(pictures) > self.limits.query_pictures:
            raise Refusal(422, f"a query has 1 to {self.limits.query_pictures} pictures")
        if boxes and len(boxes) != len(contents):
            raise Refusal(422, f"{len(boxes)} boxes were sent for {len(contents)} pictures; send one for each, or none")
        prepared = []
        for number, (content, box) in enumerate(zip_longest(contents, boxes), 1):
            image = decode(content, number, self.limits).image
            image = image if box is None else cut(image, box)
            prepared.append(self.batching.prepare(image))  # which is small: one large picture at a time is in memory
            pictures.append(jpeg(image))
        features.append(self.batching.encode(prepared))
        return self.queries.keep("images", np.concatenate(features), pictures)

    def _before(self, query_id: str) -> tuple[list[np.ndarray], list[bytes]]:
        """Features and pictures of a query that pictures are added to; nothing where there is none."""
        if not query_id:
            return [], []
        query, features = self._found(query_id)
        if query.kind != "images":
            raise Refusal(422, "pictures can be added to a search by pictures alone")
        return [features], [self.queries.picture(query_id, number) for number in range(query.pictures)]

    def keep_words(self, text: str) -> Query:
        """Embed a description, and keep the query. Refusal where the model or the text does not allow it."""
        text = text.strip()
        if self.words is None:
            raise Refusal(422, "this model understands no words; search with a picture")
        if not text or not text.isprintable() or len(text) > _MOST_WORDS:
            raise Refusal(422, f"describe somebody with 1 to {_MOST_WORDS} printable characters")
        with self.words_lock:
            features = np.asarray(self.words.queries([text]), np.float32)
        return self.queries.keep("words", features, words=text)

    def query(self, query_id: str) -> Query:
        """A query by its id. Refusal where it is unknown."""
        return self._found(query_id)[0]

    def query_of_crop(self, crop_id: str) -> Query:
        """The query that is a crop of the gallery, to search onward from a hit. Refusal where it is not there."""
        return self.query(CROP + crop_id)

    def _found(self, query_id: str) -> tuple[Query, np.ndarray]:
        """A query with its features (n, D): one that was kept, or a crop of the gallery."""
        if not query_id.startswith(CROP):
            return self.queries.get(query_id)
        crop_id = query_id.removeprefix(CROP)
        try:
            features = self.gallery.vector(crop_id)[None] if CROP_ID.fullmatch(crop_id) else None
        except GalleryError:
            features = None
        if features is None or self.crops.get(crop_id) is None:
            raise Refusal(404, "there is no such crop; it may have been removed")
        now = time.time()
        return Query(query_id, "crop", "", crop_id, 0, now, now + self.queries.seconds), features

    def search(self, query_id: str, options: SearchOptions | None = None) -> Answer:
        """The crops that are nearest to a query, the best first, also those that are too far to be the same.

        Raises: Refusal: the query is unknown, or an option cannot be used.
        """
        options = options or SearchOptions()
        query, features = self._found(query_id)
        words = query.kind == "words"
        if words and options.rerank:
            raise Refusal(422, "re-ranking says nothing about words; switch it off")
        if not 1 <= options.k <= MOST_HITS:
            raise Refusal(422, f"ask for 1 to {MOST_HITS} hits")
        where = replace(search_filter(options), not_ids=[query.crop_id] if query.crop_id else ())
        rerank = RerankOptions() if options.rerank else None
        chosen = searching.SearchOptions(options.k, options.combine, options.group_by, rerank=rerank)
        threshold, rate = (None, None) if words else self.threshold(options.false_accept_rate)
        hits = self.gallery.search_features(features, chosen, where)
        shown = tuple(self._shown(hit, threshold, words) for hit in hits)
        nobody = None if threshold is None else not any(hit.same for hit in shown)
        note = ""
        if self.calibration is not None and threshold is not None:
            note = searching.decision_note(len(features), options.combine, self.calibration.record.mean_of)
        return Answer(query, shown, nobody, threshold, rate, note)

    def threshold(self, rate: float | None) -> tuple[float | None, float | None]:
        """The threshold for a false-accept rate, and the rate; None takes the usual one. (None, None): no calibration.

        Raises: Refusal: the calibration does not support this rate, or there is none.
        """
        if self.calibration is None:
            if rate is not None:
                raise Refusal(422, "there is no calibration, so no false-accept rate can be chosen")
            return None, None
        try:
            rate = self.calibration.usual_rate() if rate is None else rate
            return self.calibration.threshold(rate), rate
        except EvaluationError:
            supported = ", ".join(f"{one:g}" for one in self.calibration.supported_rates()) or "none"
            raise Refusal(422, f"the calibration supports these false-accept rates: {supported}") from None

    def _shown(self, hit: Hit, threshold: float | None, words: bool) -> ShownHit:
        crop = self.crops.get(hit.id) or Crop(hit.id, "", hit.pid, hit.camid, hit.time, hit.tracklet, hit.tags)
        same = None if threshold is None else hit.distance <= threshold
        return ShownHit(ShownCrop.of(crop), hit.distance, None if words else hit.probability, same)

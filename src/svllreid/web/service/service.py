"""What the server does, without HTTP: the JSON API and the pages both call `Service` and its parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from svllreid.calibration.calibration import Calibration
from svllreid.data.images import open_image
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.errors import ImageError
from svllreid.gallery.crop import Crop
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.thumbnails import SIZE
from svllreid.types import UNKNOWN
from svllreid.web.errors import Refusal
from svllreid.web.service.audit import Audit
from svllreid.web.service.batching import BatchingEncoder
from svllreid.web.service.crops import Crops
from svllreid.web.service.export import Archive, write_archive
from svllreid.web.service.folder import StateFolder
from svllreid.web.service.identities import Identities
from svllreid.web.service.journal import Journal
from svllreid.web.service.queries import KeptQueries, jpeg
from svllreid.web.service.records import (
    About,
    CalibrationShown,
    Change,
    Facets,
    IdentitySummary,
    Limits,
    Pair,
    ShownCrop,
    Verdict,
)
from svllreid.web.service.review import Asked, Review
from svllreid.web.service.searches import Searches, Words
from svllreid.web.service.stock import Stock
from svllreid.web.service.uploads import FORMATS

_SHOWN_OF_A_SIDE = 6  # crops of an identity that the review shows
_SURE = 0.95  # the review does not ask what the calibration is surer of


@dataclass(frozen=True)
class Settings:
    """How a server behaves.

    Args:
        limits: what it accepts.
        query_seconds: how long queries are kept.
        most_queries: how many are kept.
        waiting: pictures that may wait for the model.
    """

    limits: Limits = field(default_factory=Limits)
    query_seconds: float = 24 * 3600.0
    most_queries: int = 2000
    waiting: int = 256


class Service:
    """A gallery that is served, in parts whose methods may be called in any thread.

    `searches` keeps queries and searches, `changing` changes identities, which `journal` remembers, `stock` adds and
    removes crops; `crops` are all crops in memory. The methods here show what is there, and ask for the review. All
    raise Refusal where a request is refused, and other ReidErrors where the gallery cannot be used.

    Args:
        gallery: the gallery, opened with `encoder` and `calibration`; `close` closes it.
        encoder: the model.
        folder: where the server keeps its state; `close` closes it.
        calibration: what distances mean; None: hits have no probability, and nothing is decided.
        words: searches by words; None: the model has no text encoder.
        settings: how the server behaves.
        observe: called with the number of pictures of each batch that the model embeds.
    """

    def __init__(
        self,
        gallery: Gallery,
        encoder: FeatureEncoder,
        folder: StateFolder,
        *,
        calibration: Calibration | None = None,
        words: Words | None = None,
        settings: Settings | None = None,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        settings = settings or Settings()
        self.gallery, self.calibration, self.limits = gallery, calibration, settings.limits
        self.folder = folder
        lock, audit = threading.RLock(), Audit(folder.audit)
        self.lock = lock
        self.crops = Crops(gallery.crops, shared=gallery.store.server)
        self.journal = Journal(folder.journal, gallery.store.find, self._relabel)
        self.batching = BatchingEncoder(encoder, limit=settings.waiting, observe=observe)
        queries = KeptQueries(folder.queries, settings.query_seconds, settings.most_queries)
        self.searches = Searches(gallery, self.crops, self.batching, queries, self.limits, calibration, words)
        self.changing = Identities(self.crops, self.journal, audit, lock)
        scan = gallery.store.crops_with_vectors
        self.reviewing = Review(self.crops, scan, self.journal.answers, self._is_doubtful)
        self.stock = Stock(gallery, self.crops, folder, audit, self.limits, lock)

    def close(self) -> None:
        """Finish what runs, and let go of the gallery. Pictures that still wait are added at the next start."""
        self.stock.adding.close()
        self.batching.close()
        with self.lock:
            self.gallery.close()
        self.folder.close()

    def check(self) -> None:
        """Whether the gallery answers. GalleryError where it does not."""
        self.gallery.store.exists()

    def facets(self) -> Facets:
        """What searches can be filtered by."""
        stats = self.crops.stats(self.gallery.record)
        cameras = {camid: count for camid, count in stats.cameras.items() if camid != UNKNOWN}
        rates = () if self.calibration is None else self.calibration.supported_rates()
        return Facets(cameras, stats.tags, stats.first, stats.last, rates, self.searches.words is not None)

    def crop(self, crop_id: str) -> ShownCrop:
        """A crop of the gallery."""
        return ShownCrop.of(self._crop(crop_id))

    def crop_picture(self, crop_id: str, *, small: bool = False) -> bytes:
        """The picture of a crop as JPEG; a small one fits into 128 x 256 pixels."""
        crop, thumbnails = self._crop(crop_id), self.gallery.thumbnails
        thumbnail = [] if thumbnails is None else [thumbnails.path(crop_id)]
        files = [Path(crop.path)] if crop.path else []
        for path in thumbnail + files if small else files + thumbnail:
            try:
                return jpeg(open_image(path), SIZE if small else None)
            except ImageError:
                continue
        raise Refusal(404, "there is no picture of this crop any more")

    def identities(self, contains: str = "", offset: int = 0, limit: int = 60) -> tuple[list[IdentitySummary], int]:
        """Some identities, sorted by name, and the number of all of them; see `Crops.identities`."""
        return self.crops.identities(contains, offset, limit)

    def identity(self, pid: str) -> list[ShownCrop]:
        """The crops of an identity across all cameras, sorted by time."""
        crops = self.crops.of(pid)
        if not crops:
            raise Refusal(404, "there is no such identity; it may have been renamed or merged")
        return [ShownCrop.of(crop) for crop in crops]

    def next_pair(self) -> Pair | None:
        """The next two crops to judge; None where nothing is doubtful."""
        waiting = self.reviewing.open()
        return self._pair(waiting[0], len(waiting)) if waiting else None

    def answer_pair(self, pair_id: str, verdict: Verdict) -> Change:
        """Answer whether a pair is the same, see `Identities.judge`. Durable when it returns."""
        pair = self.reviewing.pair(pair_id)
        if pair is None:
            raise Refusal(409, "this pair is not asked any more; load the page again")
        return self.changing.judge(pair, verdict)

    def archive(self) -> Archive:
        """The identities as a .zip file with manifest.csv, see `write_archive`."""
        return write_archive(self.crops.all(), self._file)

    def about(self) -> About:
        """The gallery, the model and the calibration in use."""
        stats, spec = self.crops.stats(self.gallery.record), self.gallery.spec
        numbers = (stats.crops, stats.identities, stats.unidentified, stats.index, self.gallery.bytes_on_disk())
        shown = None if self.calibration is None else calibration_shown(self.calibration)
        return About(*numbers, spec.fingerprint, spec.dim, spec.precision, shown, self.facets(), self.limits)

    def _crop(self, crop_id: str) -> Crop:
        crop = self.crops.get(crop_id)
        if crop is None:
            raise Refusal(404, "there is no such crop; it may have been removed")
        return crop

    def _relabel(self, crops: Sequence[Crop]) -> None:
        with self.crops.following():
            self.gallery.relabel(crops)
            self.crops.put(crops)

    def _is_doubtful(self, distance: float, part: bool) -> bool:
        """Whether the calibration leaves open if crops at this distance are the same."""
        if self.calibration is None:
            return True
        probability = float(self.calibration.probability(distance))
        return probability < _SURE if part else probability > 1 - _SURE

    def _pair(self, pair: Asked, waiting: int) -> Pair:
        left, right = self._side(pair.left), self._side(pair.right)
        probability = None if self.calibration is None else float(self.calibration.probability(pair.distance))
        if pair.part:  # the first crop is judged against the others
            left, right = left[:1], tuple(crop for crop in right if crop.id != pair.left)
        question, answered = "part" if pair.part else "join", len(self.journal.answers())
        return Pair(pair.id, question, left, right, pair.distance, probability, answered, waiting)  # type: ignore[arg-type]

    def _side(self, crop_id: str) -> tuple[ShownCrop, ...]:
        """A crop, and some more of its identity."""
        crop = self._crop(crop_id)
        others = self.crops.of(str(crop.pid)) if crop.pid is not None else []
        chosen = [crop, *(other for other in others if other.id != crop_id)][:_SHOWN_OF_A_SIDE]
        return tuple(ShownCrop.of(one) for one in chosen)

    def _file(self, crop: Crop) -> tuple[bytes, str] | None:
        """The picture of a crop as it lies on the disk, and its suffix."""
        try:
            path = Path(crop.path)
            if crop.path and path.suffix.lower() in (*FORMATS.values(), ".jpeg", ".tiff"):
                return path.read_bytes(), path.suffix.lower()
        except OSError:
            pass
        try:
            return self.crop_picture(crop.id), ".jpg"
        except Refusal:
            return None


def calibration_shown(calibration: Calibration) -> CalibrationShown:
    """What is shown of a calibration."""
    thresholds = {rate: calibration.threshold(rate) for rate in calibration.supported_rates()}
    usual = calibration.usual_rate() if thresholds else 0.0
    return CalibrationShown(Path(calibration.record.dataset).name, thresholds, usual)

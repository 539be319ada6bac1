"""Images into a gallery: each is stored once, whatever its name, and only new ones are embedded."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svllreid.data.images import AnyImage, any_image
from svllreid.embedding.encoder import FeatureEncoder, several
from svllreid.errors import GalleryError, ImageError
from svllreid.gallery.conditions import Moment, moment
from svllreid.gallery.crop import AddReport, Crop, camera, clean_tags, file_digest, pixels_digest, stored_path
from svllreid.gallery.milvus import MilvusStore
from svllreid.gallery.thumbnails import Thumbnails
from svllreid.types import UNKNOWN, Pid

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to add, with its labels; see `Crop`."""

    image: AnyImage
    name: str
    path: str
    pid: Pid | None
    camid: int
    time: float | None
    tracklet: str
    tags: tuple[str, ...]

    def crop(self, crop_id: str) -> Crop:
        """The crop that it becomes."""
        labels = (self.pid, self.camid, self.time, self.tracklet, self.tags)
        return Crop(crop_id, self.path, *labels, added=clock.time())

    def digest(self) -> str:
        """SHA-256 of the file's content, or of the pixels. ImageError where the file cannot be read."""
        if self.path:
            try:
                return file_digest(Path(self.path))
            except OSError as error:
                raise ImageError(f"{self.path} cannot be read ({error.strerror or error})") from None
        image = self.image
        return pixels_digest(np.asarray(any_image(image, self.name) if isinstance(image, Image.Image) else image))


def new_images(
    images: AnyImage | Iterable[AnyImage],
    pids: Pid | Iterable[Pid | None] | None = None,
    camids: int | Iterable[int] | None = None,
    times: Moment | Iterable[Moment | None] | None = None,
    tags: str | Iterable[str | Sequence[str] | None] | None = None,
    tracklets: str | Iterable[str] | None = None,
) -> Iterator[NewImage]:
    """The images with their labels, one after the other; see `Gallery.add`.

    Raises: GalleryError: more or fewer labels than images, or labels of another type.
    """
    columns = {
        "pids": _each(pids, None, str | int),
        "camids": _each(camids, UNKNOWN, int),
        "times": _each(times, None, str | float | int),
        "tags": _each(tags, None, str),
        "tracklets": _each(tracklets, "", str),
    }
    end = object()
    for index, image in enumerate(several(images)):
        values: dict[str, Any] = {name: next(column, end) for name, column in columns.items()}
        for name, value in values.items():
            if value is end:
                raise GalleryError(f"{index + 1} or more images but {index} {name}; give one for each image")
        path = "" if isinstance(image, np.ndarray | Image.Image) else stored_path(image)
        yield NewImage(
            image,
            path or f"image {index}",
            path,
            _pid(values["pids"]),
            camera(values["camids"]),
            moment(values["times"]),
            values["tracklets"] or "",
            clean_tags(values["tags"]),
        )
    for name, column in columns.items():
        if not isinstance(column, repeat) and next(column, end) is not end:
            raise GalleryError(f"more {name} than images; give one for each image")


def _each(given: Any, missing: Any, one: Any) -> Iterator[Any]:
    """A label for each image: of a single one, the same for all."""
    if given is None or isinstance(given, one) or not isinstance(given, Iterable):
        return repeat(missing if given is None else given)
    return iter(given)


def _pid(pid: Any) -> Pid | None:
    """An identity; NumPy's numbers and texts become Python's. GalleryError for values of other types."""
    pid = pid.item() if isinstance(pid, np.generic) else pid
    if pid is None or pid == "" or (isinstance(pid, str | int) and not isinstance(pid, bool)):
        return None if pid == "" else pid
    raise GalleryError(f"the identity {pid!r} is neither a text nor a whole number")


def add_rows(
    store: MilvusStore,
    parts: Iterable[tuple[list[Crop], np.ndarray]],
    progress: Callable[[int], None],
    *,
    update: bool,
) -> AddReport:
    """Store crops that come with their vectors; of those that are there, compare or replace the labels."""
    report = AddReport()
    for crops, vectors in parts:
        stored = store.find([crop.id for crop in crops])
        first = {crop.id: row for row, crop in reversed(list(enumerate(crops)))}
        new = sorted(row for crop_id, row in first.items() if crop_id not in stored)
        if new:
            store.upsert([crops[row] for row in new], vectors[new])
        chosen = set(new)
        others = [(crop.id, crop) for row, crop in enumerate(crops) if row not in chosen]
        report += AddReport(added=len(new)) + compare_labels(store, others, update=update)
        progress(len(crops))
    return report


def compare_labels(store: MilvusStore, given: Sequence[tuple[str, NewImage | Crop]], *, update: bool) -> AddReport:
    """Compare the labels of stored crops with those that are given by their ids, and if asked to, replace them.

    Labels that are unknown replace none. Of an id that is given twice, the last one counts. Ids that are not stored
    are passed over.
    """
    stored = store.find({crop_id for crop_id, _ in given})
    now, present, differing = dict(stored), 0, 0
    for crop_id, labelled in given:
        if crop_id in now:
            crop = replace(now[crop_id], **_known_labels(labelled))
            present, differing = present + 1, differing + (crop != now[crop_id])
            if update:
                now[crop_id] = crop
    store.relabel({crop_id: crop for crop_id, crop in now.items() if crop != stored[crop_id]})
    return AddReport(present=present, updated=differing if update else 0, differing=0 if update else differing)


def _known_labels(labelled: NewImage | Crop) -> dict[str, Any]:
    """Those of the labels that are known, by their names."""
    labels = {name: getattr(labelled, name) for name in ("pid", "camid", "time", "tracklet", "tags")}
    return {name: value for name, value in labels.items() if value not in (None, UNKNOWN, "", ())}


class Adding:
    """Adds images in parts; each part is stored before the next one is read, so that a killed call can be repeated.

    Args:
        store: where they are stored.
        encoder: embeds them.
        thumbnails: where their thumbnails go; None: nowhere.
        update: replace the labels of images that are there.
        skip: leave out images that cannot be read, instead of raising an error.
    """

    def __init__(
        self, store: MilvusStore, encoder: FeatureEncoder, thumbnails: Thumbnails | None, *, update: bool, skip: bool
    ) -> None:
        self.store, self.encoder, self.thumbnails, self.update, self.skip = store, encoder, thumbnails, update, skip

    def add(self, images: Iterator[NewImage], progress: Callable[[int], None]) -> AddReport:
        """Add all images. `progress` is called with the number of images that were dealt with since the last call."""
        report = AddReport()
        while part := list(islice(images, 8 * self.encoder.batch_size)):
            report += self._part(part, progress)
        return report

    def _part(self, part: Sequence[NewImage], progress: Callable[[int], None]) -> AddReport:
        chosen, again, report = dict[str, NewImage](), list[tuple[str, NewImage]](), AddReport()
        for image in part:
            try:
                crop_id = image.digest()
            except ImageError as error:
                report += self._skipped(image, error)
                continue
            if crop_id in chosen:
                again.append((crop_id, image))
            else:
                chosen[crop_id] = image
        stored = self.store.find(chosen)
        new = {crop_id: image for crop_id, image in chosen.items() if crop_id not in stored}
        progress(len(part) - len(new))
        report += self._embed(new, progress)
        kept = self.store.find({crop_id for crop_id, _ in again})
        for crop_id, image in again:
            if crop_id not in kept:
                report += self._skipped(image, ImageError(f"{image.name} is a copy of an image that cannot be read"))
        return report + compare_labels(self.store, [(one, chosen[one]) for one in stored] + again, update=self.update)

    def _embed(self, new: dict[str, NewImage], progress: Callable[[int], None]) -> AddReport:
        """Embeds images and stores them, batch by batch."""
        ids, images = list(new), list(new.values())
        reports, passed = [AddReport()], 0
        blocks = self.encoder.encode_stream(
            [image.image for image in images],
            on_error="skip" if self.skip else "raise",
            on_skip=lambda index, error: reports.append(self._skipped(images[index], error)),
        )
        for indices, vectors in blocks:
            crops = [images[index].crop(ids[index]) for index in indices]
            for index in indices if self.thumbnails is not None else ():
                self.thumbnails.save(ids[index], any_image(images[index].image, images[index].name))  # type: ignore[union-attr]
            self.store.upsert(crops, vectors)
            reports.append(AddReport(added=len(crops)))
            progress(int(indices[-1]) + 1 - passed)
            passed = int(indices[-1]) + 1
        progress(len(images) - passed)
        return sum(reports, AddReport())

    def _skipped(self, image: NewImage, error: ImageError) -> AddReport:
        if not self.skip:
            raise error
        return AddReport(skipped=1, reasons=((image.name, str(error)),))

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
from svllreid.files import user_path
from svllreid.gallery.conditions import Moment, moment
from svllreid.gallery.crop import AddReport, Crop, camera, clean_tags, file_digest, pixels_digest
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

    def known_labels(self) -> dict[str, Any]:
        """Those of its labels that are known, by their names."""
        labels = {"pid": self.pid, "camid": self.camid, "time": self.time, "tracklet": self.tracklet, "tags": self.tags}
        return {label: value for label, value in labels.items() if value not in (None, UNKNOWN, "", ())}

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
        path = "" if isinstance(image, np.ndarray | Image.Image) else str(user_path(image).absolute())
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
        chosen, report = dict[str, NewImage](), AddReport()
        for image in part:
            try:
                crop_id = image.digest()
            except ImageError as error:
                report += self._skipped(image, error)
                continue
            if crop_id in chosen:
                report += AddReport(present=1)
            else:
                chosen[crop_id] = image
        stored = self.store.find(chosen)
        updated, differing = self._relabelled({crop_id: (chosen[crop_id], crop) for crop_id, crop in stored.items()})
        report += AddReport(present=len(stored), updated=updated, differing=differing)
        new = {crop_id: image for crop_id, image in chosen.items() if crop_id not in stored}
        progress(len(part) - len(new))
        return report + self._embed(new, progress)

    def _relabelled(self, present: dict[str, tuple[NewImage, Crop]]) -> tuple[int, int]:
        """Replaces the labels of images that are there, if they are to be; returns how many were, and how many not."""
        relabelled = {crop_id: replace(crop, **image.known_labels()) for crop_id, (image, crop) in present.items()}
        changed = {crop_id: crop for crop_id, crop in relabelled.items() if crop != present[crop_id][1]}
        if not self.update:
            return 0, len(changed)
        for crops, vectors in self.store.vectors_of(list(changed)):
            self.store.upsert([changed[crop.id] for crop in crops], vectors)
        return len(changed), 0

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

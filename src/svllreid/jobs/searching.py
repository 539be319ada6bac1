"""What `svllreid search` does: images, or words, to the nearest crops of a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from svllreid import build
from svllreid.calibration.calibration import Calibration
from svllreid.data.images import open_image
from svllreid.data.readers.folder import CAMERA
from svllreid.embedding.contract import check_same
from svllreid.errors import GalleryError, ImageError, OutputError
from svllreid.files import is_file, user_path
from svllreid.gallery.conditions import Conditions
from svllreid.gallery.crop import Hit
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.searching import SearchOptions, decision_note
from svllreid.jobs.gallery import GalleryOptions
from svllreid.types import UNKNOWN
from svllreid.viz.hits import draw_hits


@dataclass(frozen=True)
class Query:
    """What is searched for.

    Args:
        images: images of one person or vehicle; empty where it is described in words.
        text: the words; None where there are images.
    """

    images: tuple[Path, ...] = ()
    text: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Args:
        query: what was searched for.
        hits: the crops, the best first; empty where nobody is near enough.
        threshold: the largest distance of a hit; None: any.
        false_accept_rate: the share of pairs of different identities that the threshold accepts; None without a
            calibration.
        compared: how many crops met the conditions, and so were compared with the query; None where it was not counted.
        note: what to know about the decision; empty: nothing.
    """

    query: Query
    hits: list[Hit]
    threshold: float | None = None
    false_accept_rate: float | None = None
    compared: int | None = None
    note: str = ""

    @property
    def false_hits(self) -> float | None:
        """How many crops of other identities are within the threshold by chance, on average; None if unknown."""
        if self.false_accept_rate is None or self.compared is None:
            return None
        return self.false_accept_rate * self.compared

    def to_dict(self) -> dict[str, Any]:
        """The answer as values that JSON can hold."""
        asked = {"images": [str(image) for image in self.query.images]} if self.query.images else {}
        if self.query.text is not None:
            asked["text"] = self.query.text  # type: ignore[assignment]
        decided = {"threshold": self.threshold, "false_accept_rate": self.false_accept_rate}
        counted = {"compared": self.compared, "false_hits": self.false_hits, "note": self.note}
        return {**asked, **decided, **counted, "hits": [asdict(hit) for hit in self.hits]}


def search(
    gallery_options: GalleryOptions,
    queries: Sequence[Query],
    options: SearchOptions,
    where: Conditions,
    *,
    other_cameras: bool = False,
    calibration: Path | None = None,
    false_accept_rate: float | None = None,
    picture: Path | None = None,
) -> list[Answer]:
    """Search a gallery for each query.

    Args:
        gallery_options: the gallery and the model.
        queries: either all with images, or all in words.
        options, where: see `Gallery.search_features`.
        other_cameras: leave out the cameras of the query's images, as their names tell them (`_c3` is camera 2).
        calibration: a file that `svllreid calibrate` wrote. Hits then have a probability, and those beyond its
            threshold are left out.
        false_accept_rate: which threshold of the calibration; None: its usual one.
        picture: a PNG file to draw.
    Raises: ReidError: anything that the user can fix.
    """
    if picture is not None and picture.suffix.lower() != ".png":
        raise OutputError(f"{picture}: pictures are drawn as .png; give such a name")
    for image in (image for query in queries for image in query.images):
        if not is_file(user_path(image)):
            raise ImageError(f"{image} is no file; name an image")
    decisions = None if calibration is None else Calibration.load(user_path(calibration))
    rate = None
    if decisions is not None and options.threshold is None:
        rate = decisions.usual_rate() if false_accept_rate is None else false_accept_rate
        options = replace(options, threshold=decisions.threshold(rate))
    if any(query.text is not None for query in queries):
        if other_cameras:
            raise GalleryError("a description has no camera to leave out; name the camera", ("cameras left out",))
        return _search_words(gallery_options, queries, options, where, decisions, picture)
    encoder = gallery_options.encoder()
    with Gallery(
        gallery_options.uri,
        encoder,
        name=gallery_options.name,
        calibration=decisions,
        mode="r+",
        wait=gallery_options.wait,
    ) as gallery:
        answers = []
        for query in queries:
            chosen = where
            if other_cameras:
                chosen = replace(where, not_camids=[*where.not_camids, *(_camera(image) for image in query.images)])
            hits = gallery.search_features(encoder.encode(query.images), options, chosen)
            compared = gallery.store.count(chosen) if rate is not None or not hits else None
            note = ""
            if decisions is not None:
                note = decision_note(len(query.images), options.combine, decisions.record.mean_of)
            answers.append(Answer(query, hits, options.threshold, rate, compared, note))
        if picture is not None:
            _draw(user_path(picture), answers, gallery)
    return answers


def _search_words(
    gallery_options: GalleryOptions,
    queries: Sequence[Query],
    options: SearchOptions,
    where: Conditions,
    decisions: Calibration | None,
    picture: Path | None,
) -> list[Answer]:
    """Searches by descriptions; their distances are no distances between images, so nothing can decide on them."""
    if decisions is not None or options.rerank is not None or options.threshold is not None:
        raise GalleryError(
            "a description is about as far from every image, so thresholds, calibrations and re-ranking say nothing; "
            "leave them out of a search by words"
        )
    if gallery_options.weights is None:
        raise GalleryError(f"{gallery_options.uri}: this needs the model that embeds images", settings=("weights",))
    words = build.TextEncoder.load(
        gallery_options.weights, gallery_options.config, gallery_options.device, clip=gallery_options.clip
    )
    with Gallery(gallery_options.uri, name=gallery_options.name, wait=gallery_options.wait) as gallery:
        names = (f"the gallery {gallery.store.uri}", "the model")
        check_same(gallery.spec, words.spec.without_side_information(), names)
        vectors = words.queries([query.text or "" for query in queries])
        answers = []
        for row, query in enumerate(queries):
            hits = gallery.search_features(vectors[row : row + 1], options, where)
            answers.append(Answer(query, hits, compared=None if hits else gallery.store.count(where)))
        if picture is not None:
            _draw(user_path(picture), answers, gallery)
    return answers


def _camera(image: Path) -> int:
    """The camera that a file's name tells. GalleryError where it tells none."""
    match = CAMERA.search(image.name)
    if match is None or not int(match[1]):
        raise GalleryError(
            f"{image}: its name does not tell its camera, as _c3 would, so it cannot be left out; name the camera",
            settings=("cameras left out",),
        )
    return int(match[1]) - 1


def _draw(path: Path, answers: Sequence[Answer], gallery: Gallery) -> None:
    rows = [
        (
            [open_image(image) for image in answer.query.images],
            [(crop_picture(gallery, hit.id, hit.path), _captions(hit)) for hit in answer.hits],
        )
        for answer in answers
    ]
    captions = [
        (answer.query.text or ", ".join(image.name for image in answer.query.images))
        + ("" if answer.hits else ": nobody in the gallery is near enough")
        for answer in answers
    ]
    draw_hits(path, rows, captions, f"found in {gallery.store.uri}")


def crop_picture(gallery: Gallery, crop_id: str, path: str) -> Image.Image | None:
    """The picture of a crop: its file, or its thumbnail; None where neither can be read."""
    files = [Path(path)] if path else []
    files += [gallery.thumbnails.path(crop_id)] if gallery.thumbnails is not None else []
    for file in files:
        try:
            return open_image(file)
        except ImageError:
            continue
    return None


def _captions(hit: Hit) -> tuple[str, str, str]:
    """The lines of text below a hit: identity, camera, distance and probability."""
    who = "unknown" if hit.pid is None else str(hit.pid)
    probability = "" if hit.probability is None else f"  ({hit.probability:.0%})"
    return who, "" if hit.camid == UNKNOWN else f"camera {hit.camid}", f"{hit.distance:.3f}{probability}"

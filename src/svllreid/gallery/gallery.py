"""`svllreid.Gallery`: crops that are stored, searched and removed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, get_args

import numpy as np

from svllreid.data.images import AnyImage
from svllreid.embedding.contract import EmbeddingSpec, check_same
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.errors import EvaluationError, GalleryError
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.evaluation.table_file import TableBlock
from svllreid.files import user_path
from svllreid.gallery.adding import Adding, add_rows, new_images
from svllreid.gallery.conditions import Age, Conditions, Moment, listed, moment_before, search_conditions
from svllreid.gallery.crop import AddReport, Crop, Hit, stored_path
from svllreid.gallery.milvus import MilvusStore
from svllreid.gallery.record import BESIDE, GalleryRecord
from svllreid.gallery.rewriting import copy_rows, embed_again, finish_swap, forget, rewrite, with_encoder
from svllreid.gallery.searching import Combine, GroupBy, SearchOptions, nearest_crops
from svllreid.gallery.stats import GalleryStats, count_crops
from svllreid.gallery.tables import crops_of_table, table_of_crops
from svllreid.gallery.thumbnails import Thumbnails, file_sizes
from svllreid.types import Pid

logger = logging.getLogger(__name__)


Mode = Literal["r+", "a", "x"]
"""How a gallery is opened, see `Gallery`."""
MODES: tuple[Mode, ...] = get_args(Mode)


class Calibrated(Protocol):
    """What a gallery needs of a `svllreid.Calibration`."""

    def check(self, spec: EmbeddingSpec) -> None:
        """Refuses features of another model."""

    def probability(self, distances: Any) -> np.ndarray:
        """That pairs at these distances show the same identity."""


class Gallery:
    """Crops that are stored with their features, searched and removed, in a file or on a Milvus server.

    Cameras are labels here, numbered as the user likes: features are made without side information.

    Args:
        uri: a file that ends in .db (a folder, in truth), or a Milvus server such as http://localhost:19530, whose
            token stands in the environment variable MILVUS_TOKEN.
        encoder: the model that embeds images, and for which a gallery is made. None: images can be neither added nor
            searched, but features can.
        name: of the gallery, as a server may hold several.
        calibration: gives hits a probability, see `svllreid.Calibration`.
        index: FLAT searches exactly; HNSW, IVF_FLAT and IVF_SQ8 approximately, for millions of crops. Of a new gallery.
        thumbnails: keep a small picture of every crop, in this folder; True: in a folder beside the file,
            people.thumbnails of people.db. Of a new gallery.
        shards: parts into which a server divides what is added. Of a new gallery.
        mode: `r+` opens a gallery that is there, `a` makes it if it is not, `x` makes it and refuses one that is
            there. None: `a` with an encoder, else `r+`.
        wait: wait until no other process has the file open, instead of raising an error.
        timeout: seconds after which a server that does not answer is given up.
    Raises: GalleryError: there is no such gallery, or it is open in another process, or the server does not answer.
        EvaluationError: its features are of another model, or of other settings.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> import torch
        >>> config = svllreid.load_config("person/tiny_svllreid.yml")
        >>> model = svllreid.build_model(config, num_classes=2)
        >>> torch.save(model.state_dict(), "weights.pth")  # instead of a training run
        >>> encoder = svllreid.Encoder.load("weights.pth", config, device="cpu")
        >>> red, blue = (np.full((128, 64, 3), colour, np.uint8) for colour in [(200, 0, 0), (0, 0, 200)])
        >>> with svllreid.Gallery("people.db", encoder) as gallery:
        ...     report = gallery.add([red, blue], pids=["rita", "bob"], camids=[0, 1])
        ...     hit = gallery.search(blue, k=1)[0]
        >>> report.added, hit.pid, hit.camid, round(hit.distance, 2)
        (2, 'bob', 1, 0.0)
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        encoder: FeatureEncoder | None = None,
        *,
        name: str = "crops",
        calibration: Calibrated | None = None,
        index: str = "FLAT",
        thumbnails: bool | str | os.PathLike[str] = False,
        shards: int = 1,
        mode: Mode | None = None,
        wait: bool = False,
        timeout: float = 30,
    ) -> None:
        if mode is None:
            mode = "r+" if encoder is None else "a"
        if mode not in MODES:
            raise GalleryError(f"mode is {mode!r}; give one of {', '.join(map(repr, MODES))}")
        if mode != "r+" and encoder is None:
            raise GalleryError(f"{os.fspath(uri)}: a new gallery needs the model that will embed its images")
        self.encoder, self.calibration = encoder, calibration
        self.store = MilvusStore(uri, name, wait=wait, timeout=timeout, must_exist=mode == "r+")
        try:
            finish_swap(self.store)
            if mode == "x" or not self.store.exists():
                if mode == "r+" or encoder is None:
                    raise GalleryError(f"{self.store.uri} holds no gallery named {name}; make it with its model first")
                folder = _thumbnail_folder(self.store, thumbnails)
                spec = encoder.spec.without_side_information()
                self.store.create(GalleryRecord(spec, index, folder, shards))
            self.record = self.store.open()
            if encoder is not None:
                check_same(
                    self.record.spec,
                    encoder.spec.without_side_information(),
                    (f"the gallery {self.store.uri}", "the model"),
                )
            if calibration is not None:
                calibration.check(self.record.spec)
        except BaseException:
            self.store.close()
            raise

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, or of the server."""
        self.store.close()

    def __len__(self) -> int:
        return self.store.count()

    @property
    def spec(self) -> EmbeddingSpec:
        """The record of the model and settings that made the features."""
        return self.record.spec

    @property
    def thumbnails(self) -> Thumbnails | None:
        """The small pictures of the crops; None where none are kept."""
        if not self.record.thumbnails:
            return None
        beside = Path(self.store.uri).with_suffix(BESIDE)
        return Thumbnails(beside if self.record.thumbnails == BESIDE else Path(self.record.thumbnails))

    def add(
        self,
        images: AnyImage | Iterable[AnyImage],
        pids: Pid | Iterable[Pid | None] | None = None,
        camids: int | Iterable[int] | None = None,
        times: Moment | Iterable[Moment | None] | None = None,
        tags: str | Iterable[str | Sequence[str] | None] | None = None,
        tracklets: str | Iterable[str] | None = None,
        *,
        update: bool = False,
        on_error: str = "skip",
        progress: Callable[[int], None] | None = None,
    ) -> AddReport:
        """Embed images and store them. An image that is there already, under any name, is not stored again.

        Images are stored part by part: a call that was killed can be repeated, and goes on where it stopped.

        Args:
            images: one image, or several, also from a generator; see `Encoder.encode`.
            pids, camids, times, tracklets: of each image, or one for all; None where they are unknown. Times are
                seconds since 1970, datetimes, or texts in ISO 8601. See `Crop`.
            tags: of each image, a text or several texts; one text alone is a tag of all.
            update: replace the labels of images that are there by those that are given; else they are kept, and where
                they differ counted as `differing`.
            on_error: what to do about images that cannot be read: `skip` them, which the report counts and a warning
                says, or `raise` an error.
            progress: called with the number of images that were dealt with since the last call.
        Raises: GalleryError, DatasetError: labels that do not fit. ImageError: an image that cannot be read.
        """
        if on_error not in ("skip", "raise"):
            raise GalleryError(f"on_error is {on_error!r}; give 'skip' or 'raise'")
        adding = Adding(self.store, self._encoder(), self.thumbnails, update=update, skip=on_error == "skip")
        found = new_images(images, pids, camids, times, tags, tracklets)
        return self._added(adding.add(found, progress or (lambda done: None)))

    def add_features(
        self,
        blocks: Iterable[TableBlock],
        spec: EmbeddingSpec | None,
        progress: Callable[[int], None] | None = None,
        *,
        tags: Sequence[str] = (),
        update: bool = False,
    ) -> AddReport:
        """Store features that were embedded before, as `svllreid embed` writes them.

        Args:
            blocks: rows of the table. An image whose file is there is known by its content, others by their vector.
            spec: the record of the model behind them.
            progress: called with the number of rows that were stored since the last call.
            tags: given to all of them.
            update: as for `add`.
        Raises: EvaluationError: they are of another model, or nothing says of which.
        """
        if spec is None:
            raise EvaluationError("the features do not say which model they are of; embed the images again")
        check_same(self.record.spec, spec, (f"the gallery {self.store.uri}", "the table"))
        count = progress or (lambda done: None)
        return self._added(add_rows(self.store, crops_of_table(blocks, tags), count, update=update))

    def _added(self, report: AddReport) -> AddReport:
        """The report, after warnings about what it counts; what was added is written to its final place."""
        if report.skipped:
            logger.warning(
                "%d images could not be read and were left out, first %s: %s", report.skipped, *report.reasons[0]
            )
        if report.differing:
            logger.warning(
                "%d images were there with other labels, and kept those; updating replaces them by the given ones",
                report.differing,
            )
        self.store.settle(report.added)
        return report

    def search(
        self,
        images: AnyImage | Iterable[AnyImage],
        k: int = 10,
        camids: Iterable[int] | int | None = None,
        not_camids: Iterable[int] | int | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        threshold: float | None = None,
        *,
        tags: Iterable[str] | str = (),
        pids: Iterable[Pid | None] | Pid | None = None,
        combine: Combine = "mean",
        group_by: GroupBy | None = None,
        gap: float = SearchOptions.gap,
        rerank: RerankOptions | bool = False,
    ) -> list[Hit]:
        """The crops that are nearest to a query, the best first; an empty list says that nobody is near enough.

        Args:
            images: one image of a person or vehicle, or several of the same; see `Encoder.encode`.
            k: number of hits.
            camids, not_camids: only, or no, crops of these cameras.
            after, before: only crops taken at `after` or later, and before `before`.
            threshold: the largest distance of a hit, for example `Calibration.threshold()`; None: any.
            tags: only crops that have all of these tags.
            pids: only crops of these identities.
            combine, group_by, gap: see `SearchOptions`.
            rerank: re-rank the nearest crops, True as the published test does it.
        Raises: GalleryError; DatasetError: an image cannot be used.
        """
        features = self._encoder().encode(images)
        options = SearchOptions(
            k, combine, group_by, gap, (RerankOptions() if rerank is True else rerank or None), threshold
        )
        return self.search_features(features, options, search_conditions(camids, not_camids, after, before, tags, pids))

    def search_features(
        self, features: np.ndarray, options: SearchOptions = SearchOptions(), where: Conditions = Conditions()
    ) -> list[Hit]:
        """As `search`, for features (n, D) of the same model that were embedded before."""
        if features.ndim != 2 or features.shape[1] != self.spec.dim or not len(features):
            raise GalleryError(f"features of shape {features.shape}; give (n, {self.spec.dim}), n at least 1")
        if not np.isfinite(features).all():
            raise GalleryError("the query's features hold NaN or infinity; look at its images, and at the model")
        ranked = nearest_crops(self.store, features, options, where, normalized=self.spec.normalized)
        near = np.array([distance for _, distance in ranked])
        probabilities: Sequence[float | None] = [None] * len(ranked)
        if self.calibration is not None and ranked:
            probabilities = [float(value) for value in self.calibration.probability(near)]
        return [Hit.of(crop, distance, known) for (crop, distance), known in zip(ranked, probabilities, strict=True)]

    def vector(self, crop_id: str) -> np.ndarray:
        """The features (D,) of a crop, for a search that goes on from a hit. GalleryError where it is not there."""
        for _, vectors in self.store.vectors_of([crop_id]):
            return vectors[0]
        raise GalleryError(f"{self.store.uri} holds no crop {crop_id}")

    def crops(self, where: Conditions = Conditions()) -> Iterator[Crop]:
        """The crops that meet the conditions, in no particular order."""
        for page in self.store.crops(where):
            yield from page

    def remove(
        self,
        *,
        path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
        pid: Pid | Iterable[Pid] | None = None,
        camid: int | Iterable[int] | None = None,
        tag: str | Iterable[str] | None = None,
        older_than: Age | None = None,
        ids: Iterable[str] | None = None,
        dry_run: bool = False,
    ) -> int:
        """Remove the crops that meet all the conditions, with their thumbnails; no search finds them any more.

        Args:
            path, pid, camid: of the crops, one or several.
            tag: tags that the crops have, all of them.
            older_than: crops taken longer ago than this: seconds, a timedelta, or a text such as 30d or 12h. Crops
                without a time count from when they were added.
            ids: of the crops.
            dry_run: only count them.
        Returns: how many there were.
        Raises: GalleryError: no condition.
        """
        where = Conditions(
            ids=ids,
            paths=None if path is None else [stored_path(one) for one in _several_paths(path)],
            pids=listed(pid),
            camids=listed(camid),
            tags=[tag] if isinstance(tag, str) else list(tag or ()),
            recorded_before=None if older_than is None else moment_before(older_than),
        )
        if not where.expression():
            raise GalleryError("nothing says which crops to remove; give a path, identity, camera, tag or age")
        chosen = [crop.id for crop in self.crops(where)]
        if not dry_run and chosen:
            if self.thumbnails is not None:
                self.thumbnails.remove(chosen)  # first: a kill in between leaves no picture without a row
            self.store.delete(chosen)
            forget(self.store, chosen)
        return len(chosen)

    def relabel(self, crops: Sequence[Crop]) -> None:
        """Replace the labels of stored crops by those of the given ones, which have the same ids."""
        self.store.relabel({crop.id: crop for crop in crops})

    def stats(self) -> GalleryStats:
        """What the gallery holds, counted."""
        number = self.thumbnails.size()[0] if self.thumbnails is not None else 0
        return count_crops(self.crops(), self.record, number, self.bytes_on_disk())

    def bytes_on_disk(self) -> int | None:
        """The size of the file and of the thumbnails; None for a server, which does not say."""
        if self.store.server:
            return None
        thumbnails = self.thumbnails.size()[1] if self.thumbnails is not None else 0
        return thumbnails + _folder_bytes(Path(self.store.uri))

    def table(self, where: Conditions = Conditions()) -> Iterator[TableBlock]:
        """The crops with their features, as `svllreid embed` writes them; see `evaluation.table_file`."""
        for crops, vectors in self.store.crops_with_vectors(where):
            yield table_of_crops(crops, vectors)

    def migrate(
        self,
        encoder: FeatureEncoder,
        *,
        drop_missing: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Embed all images again with another model, from their files, which must be unchanged.

        The gallery serves as it was until all are embedded. A call that was killed goes on where it stopped. Nothing
        may be added meanwhile.

        Args:
            encoder: the other model.
            drop_missing: leave out crops whose file is missing or has changed, instead of raising an error.
            progress: called with the number of crops that were dealt with since the last call.
        Returns: how many crops were left out.
        """
        record, count = with_encoder(self.record, encoder), progress or (lambda done: None)
        left_out = rewrite(
            self.store,
            record,
            lambda following: embed_again(self.store, following, encoder, count, drop_missing=drop_missing),
        )
        self.record, self.encoder = self.store.open(), encoder
        self._sweep()
        return left_out

    def compact(self, progress: Callable[[int], None] | None = None) -> int:
        """Give back the room of removed crops, whose features else stay in the file; returns stray thumbnails deleted.

        A file is written anew. A server does so by itself, a while after this asks for it.
        """
        count = progress or (lambda done: None)
        if self.store.server:
            self.store.flush()
            self.store.compact()
        else:
            rewrite(self.store, self.record, lambda following: copy_rows(self.store, following, count), continued=False)
            self.store.open()
        return self._sweep()

    def _sweep(self) -> int:
        """Delete thumbnails whose crop is gone, as after a kill; returns how many there were."""
        if self.thumbnails is None:
            return 0
        return self.thumbnails.remove_others({crop.id for crop in self.crops()})

    def _encoder(self) -> FeatureEncoder:
        if self.encoder is None:
            raise GalleryError(f"{self.store.uri}: the gallery was opened without a model, which embeds images")
        return self.encoder


def _several_paths(given: Any) -> list[Any]:
    return [given] if isinstance(given, str | os.PathLike) else list(given)


def _thumbnail_folder(store: MilvusStore, given: bool | str | os.PathLike[str]) -> str:
    """The folder of a new gallery's thumbnails, as its record has it; empty where none are kept."""
    if given is True and store.server:
        raise GalleryError("thumbnails of a gallery on a server need a folder; name one that its users share")
    if given is True:
        return BESIDE
    return str(user_path(given).absolute()) if given else ""


def _folder_bytes(folder: Path) -> int:
    return sum(file_sizes(file for file in folder.rglob("*") if file.is_file()))

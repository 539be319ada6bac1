"""What the commands `svllreid gallery` do: open, fill, change and copy out a gallery."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from svllreid import build
from svllreid.config import Config
from svllreid.data.readers.listed_images import list_images
from svllreid.errors import GalleryError, OutputError
from svllreid.evaluation.table_file import check_format, holds_features, read_features, write_table
from svllreid.files import is_file, user_path
from svllreid.gallery.conditions import Conditions
from svllreid.gallery.crop import AddReport, clean_tags
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.tables import pid_of
from svllreid.runtime.progress import LiveReport, logging_to

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GalleryOptions:
    """Which gallery, and which model.

    Args:
        uri, name, wait: see `Gallery`.
        weights: the model; None where a command needs none.
        config: instead of the configuration beside the checkpoint.
        device, precision, batch_size: see `Encoder.load`.
        clip: CLIP's weights that the model began with, for a search by words; see `TextEncoder.load`.
    """

    uri: str
    weights: Path | None = None
    name: str = "crops"
    wait: bool = False
    config: Config | None = None
    device: str = "auto"
    precision: str | None = None
    batch_size: int | None = None
    clip: str | None = None

    def encoder(self) -> build.Encoder:
        """The model. GalleryError where none was given."""
        if self.weights is None:
            raise GalleryError(f"{self.uri}: this needs the model that embeds images", settings=("weights",))
        return build.Encoder.load(
            self.weights, self.config, self.device, precision=self.precision, batch_size=self.batch_size
        )


@contextmanager
def opened(options: GalleryOptions, encoder: build.Encoder | None = None) -> Iterator[Gallery]:
    """The gallery, which must be there, as a context."""
    with Gallery(options.uri, encoder, name=options.name, wait=options.wait, mode="r+") as gallery:
        yield gallery


def create(
    options: GalleryOptions, *, index: str, thumbnails: bool, thumbnail_folder: Path | None, shards: int = 1
) -> Gallery:
    """Make an empty gallery for a model, and return it closed. GalleryError where it is there already."""
    encoder, kept = options.encoder(), thumbnail_folder or thumbnails
    with Gallery(
        options.uri,
        encoder,
        name=options.name,
        index=index,
        thumbnails=kept,
        shards=shards,
        mode="x",
        wait=options.wait,
    ) as gallery:
        return gallery


def add(
    options: GalleryOptions,
    source: Path,
    *,
    tags: tuple[str, ...] = (),
    update: bool = False,
    skip_unreadable: bool = False,
    console: Console | None = None,
) -> AddReport:
    """Add the images of a folder or table, see `list_images`, or the rows of a file of features.

    Raises: ReidError: anything that the user can fix. What was added before is kept; the same call goes on.
    """
    console = console or Console(stderr=True)
    source = user_path(source)
    with logging_to(None, console), LiveReport(console) as report:
        if is_file(source) and holds_features(source):
            table, spec = read_features(source)
            with opened(options) as gallery, report.counting("adding features", len(table.vectors)) as count:
                return gallery.add_features([table], spec, count, tags=tags, update=update)
        images, notes = list_images(source)
        for note in notes:
            logger.info("%s", note)
        with opened(options, options.encoder()) as gallery, report.counting("adding", len(images)) as count:
            return gallery.add(
                (image.path for image in images),
                (pid_of(image.pid) for image in images),
                (image.camid for image in images),
                (image.time for image in images),
                ([*tags, *clean_tags(image.tags)] for image in images),
                (image.tracklet for image in images),
                update=update,
                on_error="skip" if skip_unreadable else "raise",
                progress=count,
            )


def export(options: GalleryOptions, output: Path, where: Conditions, console: Console | None = None) -> int:
    """Write crops with their features to a .parquet or .npz file, as `svllreid embed` does; returns their number."""
    console, output = console or Console(stderr=True), user_path(output)
    check_format(output)
    if output.exists():
        raise OutputError(f"{output} is there already; name another output")
    with opened(options) as gallery, LiveReport(console) as report:
        total = gallery.store.count(where)
        if not total:
            raise GalleryError(f"{options.uri}: no crop meets the conditions, so there is nothing to export")
        with report.counting("exporting", total) as count:

            def counted() -> Iterator:
                for block in gallery.table(where):
                    yield block
                    count(len(block.vectors))

            return write_table(output, counted(), gallery.spec)


def with_progress(
    text: str, options: GalleryOptions, work: Callable[[Gallery, Callable[[int], None]], int], console: Console | None
) -> int:
    """Do something with every crop of a gallery, with a progress bar; returns what `work` returns."""
    console = console or Console(stderr=True)
    with (
        logging_to(None, console),
        opened(options) as gallery,
        LiveReport(console) as report,
        report.counting(text, len(gallery)) as count,
    ):
        return work(gallery, count)


def migrate(options: GalleryOptions, *, drop_missing: bool, console: Console | None = None) -> int:
    """Embed all crops again with another model; returns how many were left out."""
    encoder = options.encoder()
    return with_progress(
        "embedding again",
        options,
        lambda gallery, count: gallery.migrate(encoder, drop_missing=drop_missing, progress=count),
        console,
    )


def compact(options: GalleryOptions, console: Console | None = None) -> int:
    """Give back the room of removed crops; returns how many stray thumbnails were deleted."""
    return with_progress("writing anew", options, lambda gallery, count: gallery.compact(count), console)

"""Embedding a folder or a table of images into a file of features, in parts that outlive a kill."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import shutil
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import distributed

from svllreid import build
from svllreid.config import Config
from svllreid.data.readers.layout import absent, first_three
from svllreid.data.readers.listed_images import ListedImage, list_images
from svllreid.errors import ImageError, OutputError
from svllreid.evaluation.table_file import TableBlock, check_format, check_texts, write_table
from svllreid.files import UNENCODABLE, atomic_write, file_stamp, user_path, write_json
from svllreid.jobs.encoding import fitting_encoder
from svllreid.runtime.gather import num_processes, process_rank
from svllreid.runtime.processes import end_process_group, is_first_process
from svllreid.runtime.progress import LiveReport, logging_to

logger = logging.getLogger(__name__)

PART_ROWS = 4096
_KEY = "listing.json"


@dataclass(frozen=True)
class EmbedOptions:
    """How images are embedded.

    Args:
        device, precision, batch_size: see `Encoder.load`.
        cameras: cameras and viewpoints are numbered as in the training set, so that side information is added, if the
            model has any.
        skip_unreadable: leave out images that cannot be read, and list them.
        fresh: start over where parts of an earlier call, or its file, are there.
    """

    device: str = "auto"
    precision: str | None = None
    batch_size: int | None = None
    cameras: bool = False
    skip_unreadable: bool = False
    fresh: bool = False


def embed_to_file(
    source: Path,
    weights: Path,
    output: Path,
    options: EmbedOptions = EmbedOptions(),
    console: Console | None = None,
    *,
    config: Config | None = None,
) -> int:
    """Embed images into a file; returns the number of its rows, 0 on other processes than the first.

    Finished parts of some PART_ROWS images lie in `<output>.parts` until all are done, so that the same call continues
    after a kill with no row lost or twice. Several processes that torchrun started take every so-many-th part each.

    Args:
        source: a folder or a table, see `list_images`.
        weights: a checkpoint, see `Encoder.load`.
        output: a .parquet or .npz file, see `write_table`.
        options: of the command line.
        console: where progress is shown; None: standard error.
        config: instead of the one beside the checkpoint.
    Raises: ReidError: anything that the user can fix.
    """
    console = console or Console(stderr=True, quiet=not is_first_process())
    output = user_path(output)
    check_format(output)
    with logging_to(None, console), LiveReport(console) as report:
        images, notes = list_images(source)
        check_texts(output, (str(image.path) for image in images))
        if not options.skip_unreadable:
            _check_present(images, source)
        encoder, sie_notes = fitting_encoder(
            weights,
            config,
            options.device,
            cameras=options.cameras,
            precision=options.precision,
            batch_size=options.batch_size,
        )
        notes += sie_notes
        # A part is whole batches: how a batch is composed decides the last bits of its features.
        part_rows = encoder.batch_size * -(-PART_ROWS // encoder.batch_size)
        spec = encoder.spec
        model = {"model": spec.fingerprint, "precision": spec.precision}
        key = {"images": _digest(images), **model, "rows": len(images), "part": part_rows}
        folder = _Parts(output.with_name(f"{output.name}.parts"), images, part_rows)
        if process_rank() == 0:
            for note in notes:
                logger.info("%s", note)
            folder.open(output, key, fresh=options.fresh)
        _wait_for_all()
        todo = [number for number in folder.missing() if number % num_processes() == process_rank()]
        total = sum(len(folder.rows(number)) for number in todo)
        if done := len(images) - sum(len(folder.rows(number)) for number in folder.missing()):
            logger.info("%d of %d images were embedded before", done, len(images))
        with report.counting("embedding", total) as count:
            _embed(encoder, folder, todo, options.skip_unreadable, count)
        _wait_for_all()
        rows = 0
        if process_rank() == 0:
            rows = write_table(output, folder.blocks(), spec)
            _list_skipped(output, folder.skipped())
            shutil.rmtree(folder.path)
            logger.info("%d features: %s", rows, output)
        end_process_group()
        return rows


def _check_present(images: Sequence[ListedImage], source: Path) -> None:
    """Refuses a table that names absent images, before hours of embedding others."""
    if missing := absent(image.path for image in images):
        raise ImageError(
            f"{len(missing)} of the {len(images)} images that {source} names are absent: {first_three(missing)}; check "
            "the paths, which count from the table's folder",
            settings=("unreadable images",),
        )


def columns_of(images: Sequence[ListedImage]) -> dict[str, np.ndarray]:
    """The columns of a table of features (`TableBlock`) of these images, except the features."""
    return {
        "path": np.array([str(image.path) for image in images], dtype=str),
        "pid": np.array([image.pid for image in images], dtype=str),
        "split": np.array([image.split for image in images], dtype=str),
        "tracklet": np.array([image.tracklet for image in images], dtype=str),
        "tags": np.array([image.tags for image in images], dtype=str),
        "camid": np.array([image.camid for image in images], np.int64),
        "viewid": np.array([image.viewid for image in images], np.int64),
        "time": np.array([np.nan if image.time is None else image.time for image in images], np.float64),
    }


def _wait_for_all() -> None:
    if num_processes() > 1:
        distributed.barrier()


def _digest(images: Sequence[ListedImage]) -> str:
    """Of what is listed: paths with sizes and times, and all that is known of the images."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(file_stamp(image.path))
        labels = (image.pid, image.camid, image.viewid, image.time, image.split, image.tracklet, image.tags)
        digest.update(repr(labels).encode())
    return digest.hexdigest()


class _Parts:
    """The folder of finished parts: `000000.npz` holds the features of the first `part_rows` images, and so on."""

    def __init__(self, path: Path, images: Sequence[ListedImage], part_rows: int) -> None:
        self.path, self.images, self.part_rows = path, images, part_rows
        self.count = -(-len(images) // part_rows)

    def open(self, output: Path, key: dict[str, Any], *, fresh: bool) -> None:
        """Make the folder, or check that it is of the same images and model.

        Raises: OutputError: it belongs to another call, or the output is there already.
        """
        if fresh:
            shutil.rmtree(self.path, ignore_errors=True)
        elif self.path.is_dir():
            try:
                before = json.loads((self.path / _KEY).read_text("utf-8"))
            except (OSError, ValueError):
                before = None
            if before != key:
                raise OutputError(
                    f"{self.path} holds parts of other images, another model, another precision or another batch size; "
                    "name another output, or start over",
                    ("starting over",),
                )
        elif output.exists():
            raise OutputError(f"{output} is there already; name another output, or start over", ("starting over",))
        write_json(self.path / _KEY, key)

    def file(self, number: int) -> Path:
        """The file of a part."""
        return self.path / f"{number:06d}.npz"

    def rows(self, number: int) -> range:
        """The images of a part, by their place in the list."""
        return range(number * self.part_rows, min((number + 1) * self.part_rows, len(self.images)))

    def missing(self) -> list[int]:
        """The parts that are not finished."""
        return [number for number in range(self.count) if not self.file(number).is_file()]

    def save(self, number: int, kept: list[int], vectors: np.ndarray, skipped: list[tuple[int, str]]) -> None:
        """Write a finished part, atomically."""
        lost, reasons = np.array([row for row, _ in skipped], np.int64), [reason for _, reason in skipped]
        with atomic_write(self.file(number)) as temporary, temporary.open("wb") as file:
            np.savez(
                file, rows=np.array(kept, np.int64), vectors=vectors, skipped=lost, reasons=np.array(reasons, dtype=str)
            )

    def blocks(self) -> Iterator[TableBlock]:
        """The rows of all parts, in the order of the list."""
        for number in range(self.count):
            part = self._load(number)
            yield TableBlock(columns_of([self.images[row] for row in part["rows"]]), part["vectors"])

    def skipped(self) -> list[tuple[Path, str]]:
        """The images that were left out, and why."""
        left_out = []
        for number in range(self.count):
            part = self._load(number)
            left_out += [
                (self.images[row].path, str(reason))
                for row, reason in zip(part["skipped"], part["reasons"], strict=True)
            ]
        return left_out

    def _load(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of a part. OutputError where it has been damaged since."""
        try:
            with self.file(number).open("rb") as file, np.load(file, allow_pickle=False) as part:
                return {name: part[name] for name in ("rows", "vectors", "skipped", "reasons")}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise OutputError(
                f"{self.file(number)} is damaged ({error}); remove it, and the same command embeds its images again"
            ) from None


def _embed(
    encoder: build.Encoder, parts: _Parts, todo: Sequence[int], skip: bool, count: Callable[[int], None]
) -> None:
    """Embed the images of some parts in one stream, and write each part when the next one begins."""
    rows, images = [row for number in todo for row in parts.rows(number)], parts.images
    kept, vectors, skipped = defaultdict[int, list](list), defaultdict[int, list](list), defaultdict[int, list](list)

    def on_skip(index: int, error: ImageError) -> None:
        skipped[rows[index] // parts.part_rows].append((rows[index], str(error)))

    def save(number: int) -> None:
        none = np.empty((0, encoder.embedder.dim), np.float32)
        parts.save(number, kept.pop(number, []), np.concatenate([none, *vectors.pop(number, [])]), skipped[number])

    blocks = encoder.encode_stream(
        (images[row].path for row in rows),
        camids=(images[row].camid for row in rows),
        viewids=(images[row].viewid for row in rows),
        on_error="skip" if skip else "raise",
        on_skip=on_skip,
    )
    waiting, passed = deque(todo), 0
    for indices, features in blocks:
        chosen = [rows[index] for index in indices]
        number = chosen[0] // parts.part_rows  # of all of them, since a part is whole batches
        while waiting[0] != number:
            save(waiting.popleft())
        kept[number] += chosen
        vectors[number].append(features)
        count(int(indices[-1]) + 1 - passed)
        passed = int(indices[-1]) + 1
    for number in waiting:
        save(number)
    count(len(rows) - passed)


def _list_skipped(output: Path, skipped: Sequence[tuple[Path, str]]) -> None:
    """Write the images that were left out to a table beside the output, and say how many they are."""
    file = output.with_name(f"{output.stem}.skipped.csv")
    file.unlink(missing_ok=True)
    if not skipped:
        return
    with (
        atomic_write(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=UNENCODABLE) as lines,
    ):
        writer = csv.writer(lines)
        writer.writerow(["path", "reason"])
        writer.writerows(skipped)
    logger.warning("%d images could not be read and were left out: %s", len(skipped), file)

"""The identities of a gallery as an archive that `svllreid train` reads once unpacked: pictures and a manifest."""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np

from svllreid.gallery.crop import Crop
from svllreid.types import UNKNOWN

COLUMNS = ("path", "pid", "split", "camid", "time", "tracklet")
MANIFEST = "manifest.csv"
_PART = 1 << 20  # bytes that are sent at once


@dataclass(frozen=True)
class Archive:
    """A temporary file that is deleted when it is closed, or when the process ends.

    Args:
        file: open for reading, at its beginning.
        crops: the number of crops in it.
        missing: the number of crops that were left out, as they have no picture.
    """

    file: IO[bytes]
    crops: int
    missing: int

    def parts(self) -> Iterator[bytes]:
        """The content, part by part; the file is closed at the end, and where the reader goes away before."""
        with self.file:
            while part := self.file.read(_PART):
                yield part


def write_archive(crops: Iterable[Crop], picture: Callable[[Crop], tuple[bytes, str] | None]) -> Archive:
    """Write an archive of all crops that have an identity.

    In it are `manifest.csv` with COLUMNS, and the pictures in `images`. Cameras are written if all are known, since
    manifests have them in all rows or in none.

    Args:
        crops: of the gallery.
        picture: gives the bytes of a crop's picture and the suffix of their format; None where there is no picture.
    """
    named = sorted((crop for crop in crops if crop.pid is not None), key=lambda crop: (str(crop.pid), crop.id))
    cameras = all(crop.camid != UNKNOWN for crop in named)
    text, missing = io.StringIO(), 0
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile(prefix="svllreid-"))
        archive = stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_STORED))
        for crop in named:
            found = picture(crop)
            if found is None:
                missing += 1
                continue
            content, suffix = found
            name = f"images/{crop.id}{suffix}"
            archive.writestr(name, content)
            time = "" if crop.time is None else np.format_float_positional(crop.time, trim="-")
            rows.writerow([name, crop.pid, "train", crop.camid if cameras else "", time, crop.tracklet])
        archive.writestr(MANIFEST, text.getvalue(), zipfile.ZIP_DEFLATED)
        archive.close()
        file.seek(0)
        stack.pop_all()
        return Archive(file, len(named) - missing, missing)

"""Images to embed without being a dataset: any folder, or a table whose rows need no more than a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from svllreid.data.readers.folder import CAMERA, below, read_folder
from svllreid.data.readers.layout import note, others_note
from svllreid.data.readers.manifest import MAX_FAULTS, Texts, existing_file, form_fault, index, index_fault, read_rows
from svllreid.data.readers.numbers import require_cameras_fit
from svllreid.data.readers.own_data import SPLITS
from svllreid.errors import DatasetError
from svllreid.files import is_file, is_folder, spelled_out, user_path
from svllreid.types import END_TIME, FIRST_TIME, UNKNOWN, Sample

_OPTIONAL = ("pid", "camid", "viewid", "split", "time", "tracklet", "tags")
_SECONDS = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_TIME_IN_NAME = re.compile(r"_t(\d{9,11}(?:\.\d+)?)(?![\d])", re.ASCII)


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image and what is known of it.

    Args:
        path: the image file.
        pid: its identity; empty where it is unknown.
        camid, viewid: zero-based camera and viewpoint; UNKNOWN (-1) where they are unknown.
        time: seconds since 1970 (UTC); None where it is unknown.
        split: train, query or gallery; empty where it belongs to none.
        tracklet: the name of the tracklet that it belongs to, within its camera; empty where it is unknown.
        tags: any texts for the filters of a gallery, separated by semicolons.
    """

    path: Path
    pid: str = ""
    camid: int = UNKNOWN
    viewid: int = UNKNOWN
    time: float | None = None
    split: str = ""
    tracklet: str = ""
    tags: str = ""


def list_images(source: Path) -> tuple[list[ListedImage], list[str]]:
    """The images of a folder or of a table, sorted by path, and notes on what was left out.

    - A folder with sub-folders train, query or gallery is read as `read_folder` reads it, with identities and splits.
    - Any other folder gives all images in it and below it; `_c<k>` in a file's name is the camera, k counting from 1,
      and `_t<seconds since 1970>`, such as `_t1777638600.25`, the time. A number of fewer than 9 or more than 11 digits
      before the point is no time.
    - A CSV or Parquet table needs the column path; pid, camid, viewid, split, time, tracklet and tags may be there. A
      time is in seconds since 1970, or an ISO 8601 text such as 2026-05-01T12:30:00+02:00 (without a zone: UTC).

    Raises: DatasetError: no image, an unreadable table, or faulty rows.
    """
    source = user_path(source)
    if not is_folder(source) and not is_file(source):
        raise DatasetError(f"{source} does not exist; name a folder of images, or a CSV or Parquet table of them")
    if not is_folder(source):
        images, notes = _table(existing_file(source))
    elif any(is_folder(source / split) for split in SPLITS):
        splits = read_folder(source)
        images = [_of(sample, source, split) for split in SPLITS for sample in getattr(splits, split)]
        notes = list(splits.notes)
    else:
        images, notes = _folder(source)
    if not images:
        raise DatasetError(f"{source} holds no image; name a folder of images, or a CSV or Parquet table of them")
    return sorted(images, key=lambda image: str(image.path)), notes


def _of(sample: Sample, root: Path, split: str) -> ListedImage:
    """An image of a dataset in folders. Its identity is the name of its folder, as in a table that says the same."""
    identity = sample.path.relative_to(root / split).parts[0]
    return ListedImage(sample.path, identity, sample.camid, sample.viewid, split=split)


def _folder(root: Path) -> tuple[list[ListedImage], list[str]]:
    """All images in a folder and below it, and notes on what was left out."""
    paths: list[Path] = []
    others: list[str] = []
    for folder, listing in below(root):
        paths += [folder / name for name in listing.images]
        others += [(folder / name).relative_to(root).as_posix() for name in listing.others]
    cameras = {path: match[1] for path in paths if (match := CAMERA.search(path.stem))}
    require_cameras_fit("folder", root, ((str(path.relative_to(root)), digits) for path, digits in cameras.items()))
    images = []
    for path in paths:
        moment = _TIME_IN_NAME.search(path.name)
        camid = int(cameras.get(path, 0)) - 1  # camera 0 becomes UNKNOWN, too
        images.append(ListedImage(path, camid=camid, time=float(moment[1]) if moment else None))
    zeros = [path.relative_to(root).as_posix() for path, digits in cameras.items() if not int(digits)]
    what = "files that name camera 0, though cameras count from 1 (_c1), are taken without a camera"
    return images, note(str(root), what, zeros) + others_note(str(root), others)


def _table(file: Path) -> tuple[list[ListedImage], list[str]]:
    """The rows of a table, of which faulty ones are refused together, and notes on its columns."""
    images: list[ListedImage] = []
    bad: list[str] = []
    notes: list[str] = []
    for place, texts in read_rows(file, ("path",), _OPTIONAL, notes):
        if len(bad) == MAX_FAULTS:  # the rest is not read
            break
        fault = _fault(texts)
        if fault:
            bad.append(f"{place}: {fault}")
            continue
        images.append(
            ListedImage(
                file.parent / spelled_out(texts["path"]),
                texts.get("pid", ""),
                index(texts.get("camid", "")),
                index(texts.get("viewid", "")),
                _time(texts.get("time", "")),
                texts.get("split", "").lower(),
                texts.get("tracklet", ""),
                texts.get("tags", ""),
            )
        )
    if bad:
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise DatasetError(f"{file} has {len(bad)} bad rows: {'; '.join(bad[:3])}{more}. Fix these rows.")
    return images, notes


def _fault(texts: Texts) -> str | None:
    """What is wrong with a row; None if nothing is."""
    if fault := form_fault(texts):
        return fault
    if not texts.get("path"):
        return "path is empty"
    if texts.get("split", "").lower() not in ("", *SPLITS):
        return f"split {texts['split']!r} is none of {', '.join(SPLITS)}"
    if fault := index_fault(texts):
        return fault
    if texts.get("time"):
        time = _time(texts["time"])
        if time is None:
            return f"time {texts['time']!r} is neither seconds since 1970 nor a date and time in ISO 8601"
        if not FIRST_TIME <= time < END_TIME:
            return f"time {texts['time']!r} is beyond the years 1 to 9999; give seconds since 1970, not milliseconds"
    return None


def _time(text: str) -> float | None:
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

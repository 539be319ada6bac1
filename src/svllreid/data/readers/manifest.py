"""A user's own images, listed in a CSV or Parquet file."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from svllreid.data.readers.layout import Root, contents, first_three, read_text, require_present
from svllreid.data.readers.numbers import LARGEST, Labelled, fits
from svllreid.data.readers.own_data import SPLITS, assemble
from svllreid.data.readers.record import Dataset
from svllreid.errors import DatasetError
from svllreid.files import is_file, is_folder, user_path
from svllreid.types import PERSON, UNKNOWN, Splits

REQUIRED = ("path", "pid", "split")
OPTIONAL = ("camid", "viewid")
PARQUET = (".parquet", ".pq")
# A whole number; tools that leave gaps in a column write it as 1.0.
INDEX = re.compile(r"(-1|\d+)(?:\.0*)?", re.ASCII)
Texts = dict[str, str]
# What reading Parquet raises beside pyarrow's own errors: on damaged files, and on values that Python has no type for.
UNREADABLE = (OSError, ValueError, ArithmeticError, LookupError, TypeError, NotImplementedError)
# A small Parquet file can unfold to endless rows, or to endless values.
BATCH = 128  # rows in memory at a time
MAX_FAULTS = 1000  # after so many the rest of a table is not read
MAX_CHARACTERS = 32_767  # no system's paths are longer


@dataclass(frozen=True, slots=True)
class Row:
    """One row, read and checked; `place` names its line."""

    place: str
    path: Path
    pid: str
    split: str
    camid: int
    viewid: int


def read_manifest(root: Root, *, noun: str = PERSON) -> Splits:
    """Reads a CSV (UTF-8, first line the column names) or Parquet file of images.

    Columns path (relative to the file's folder), pid, split (train, query, gallery) and, optionally, camid and viewid,
    zero-based (1.0 is 1); other columns are ignored. An empty camid or viewid, or -1, is unknown; cameras are known in
    every row or in none. Training identities that are all numbers become int, else all stay text; those of query and
    gallery likewise. An image may stand once in each split: in query and gallery, as leave-self-out wants it, then
    under one pid; in train and a test split, which a note reports. Twice in one split is an error.

    Args:
        root: the file.
        noun: the prompt's noun.
    Returns: cross-camera splits, or leave-self-out where cameras are unknown; samples sorted by path.
    Raises: DatasetError: an unreadable file, missing columns, bad or repeated rows, or absent images.
    """
    file = _existing_file(root)
    unit, records = ("row", _parquet(file)) if file.suffix.lower() in PARQUET else ("line", _csv(file))
    rows = _parse(file, unit, records)
    _check_cameras(file, rows)
    notes = _check_repeats(file, rows)
    require_present([row.path for row in rows], "manifest", file)
    images: dict[str, list[Labelled]] = {split: [] for split in SPLITS}
    for row in rows:
        images[row.split].append(Labelled(row.path, row.pid, row.camid, row.viewid))
    return assemble("manifest", images, file, noun=noun, notes=notes)


def _existing_file(root: Root) -> Path:
    file = user_path(root)
    if is_folder(file):
        raise DatasetError(
            f"manifest: {file} is a folder; {contents(file)}. Name the CSV or Parquet file itself",
            settings=("dataset folder",),
        )
    if not is_file(file):
        raise DatasetError(f"manifest: {file} does not exist. Name a CSV or Parquet file", settings=("dataset folder",))
    if file.suffix.lower() not in (".csv", *PARQUET):
        raise DatasetError(f"manifest: {file} does not end in .csv, .parquet or .pq. Save it in one of these formats.")
    return file


def _check_columns(file: Path, columns: Iterable[str]) -> None:
    found = list(columns)
    if missing := [column for column in REQUIRED if column not in found]:
        raise DatasetError(
            f"manifest: {file} lacks the columns {', '.join(missing)}; it has {', '.join(found) or 'none'}. "
            f"Needed are {', '.join(REQUIRED)}, separated by commas; {', '.join(OPTIONAL)} may be there."
        )
    if repeated := [column for column in REQUIRED + OPTIONAL if found.count(column) > 1]:
        raise DatasetError(f"manifest: {file} has several columns called {', '.join(repeated)}. Keep one of each.")


def _csv(file: Path) -> Iterator[tuple[int, Texts]]:
    """Line number and values of every row; a row of too many fields keeps them under the name ''."""
    reader = csv.reader(io.StringIO(read_text(file, "manifest"), newline=""))
    try:
        columns = [column.strip().lower() for column in next(reader, [])]
        _check_columns(file, columns)
        for fields in reader:
            texts = dict(zip(columns, (field.strip() for field in fields), strict=False))
            if len(fields) > len(columns):
                texts[""] = str(len(fields))
            if any(texts.values()):
                yield reader.line_num, texts
    except csv.Error as error:
        raise DatasetError(f"manifest: {file}, line {reader.line_num}: {error}. Save it as CSV in UTF-8.") from error


def _parquet(file: Path) -> Iterator[tuple[int, Texts]]:
    """Number and values of every row."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetError(
            f"manifest: reading {file} needs pyarrow. Install it with: pip install 'svllreid[parquet]'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            columns = table.schema_arrow.names
            _check_columns(file, columns)
            wanted = [column for column in REQUIRED + OPTIONAL if column in columns]
            batches = table.iter_batches(batch_size=BATCH, columns=wanted)
            records = (record for batch in batches for record in batch.to_pylist())
            for number, record in enumerate(records, start=1):
                yield number, {column: _text(value) for column, value in record.items()}
    except (pyarrow.ArrowException, *UNREADABLE) as error:
        raise DatasetError(f"manifest: {file} cannot be read as Parquet: {error}") from error


def _text(value: Any) -> str:
    """A Parquet value as a CSV would hold it: columns with gaps come as floats."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _parse(file: Path, unit: str, records: Iterable[tuple[int, Texts]]) -> list[Row]:
    """The rows; those read so far where MAX_FAULTS of them repeat others, which `_check_repeats` refuses."""
    rows: list[Row] = []
    bad: list[str] = []
    images: set[tuple[str, str]] = set()
    for number, texts in records:
        if len(bad) + len(rows) - len(images) >= MAX_FAULTS:
            break
        place = f"{unit} {number}"
        fault = _fault(texts)
        if fault:
            bad.append(f"{place}: {fault}")
            continue
        # normpath: two spellings of one file are one file.
        path = Path(os.path.normpath(file.parent / texts["path"]))
        camid, viewid = _index(texts.get("camid", "")), _index(texts.get("viewid", ""))
        rows.append(Row(place, path, texts["pid"], texts["split"].lower(), camid, viewid))
        images.add((str(path), rows[-1].split))
    if bad:
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise DatasetError(f"manifest: {file} has {len(bad)} bad rows: {'; '.join(bad[:3])}{more}. Mend these rows.")
    return rows


def _fault(texts: Texts) -> str | None:
    """What is wrong with a row, None if nothing is."""
    if "" in texts:
        return f"{texts['']} fields, more than there are columns (quote a value that holds a comma)"
    for column in REQUIRED:
        if not texts.get(column):
            return f"{column} is empty"
        if len(texts[column]) > MAX_CHARACTERS:
            return f"{column} has {len(texts[column])} characters (at most {MAX_CHARACTERS})"
    split = texts["split"]
    if split.lower() not in SPLITS:
        near = get_close_matches(split.lower(), SPLITS, n=1)
        return f"split {split!r} is unknown" + (
            f" (did you mean {near[0]}?)" if near else f" (one of {', '.join(SPLITS)})"
        )
    for column in OPTIONAL:
        text = texts.get(column, "")
        match = INDEX.fullmatch(text)
        if text and match is None:
            return f"{column} {text!r} is not a whole number from 0"
        if match and not fits(match[1].removeprefix("-")):
            return f"{column} {text[:30]!r} is above {LARGEST}"
    return None


def _index(text: str) -> int:
    match = INDEX.fullmatch(text)
    return int(match[1]) if match else UNKNOWN


def _check_cameras(file: Path, rows: list[Row]) -> None:
    unknown = [row.place for row in rows if row.camid == UNKNOWN]
    if unknown and len(unknown) < len(rows):
        raise DatasetError(
            f"manifest: {len(unknown)} of {len(rows)} rows of {file} have no camid: {first_three(unknown)}. "
            "Give the camera in every row, or in none."
        )


def _check_repeats(file: Path, rows: list[Row]) -> list[str]:
    """Refuses an image twice in one split or under two pids at test; notes images both in train and at test."""
    seen: dict[tuple[Path, str], Row] = {}
    bad = []
    for row in rows:
        first = seen.setdefault((row.path, row.split), row)
        if first is not row:
            bad.append(f"{row.place} repeats {first.place} ({row.path.name} in {row.split})")
    for (path, split), row in seen.items():
        other = seen.get((path, "gallery"))
        if split == "query" and other and other.pid != row.pid:
            bad.append(f"{row.place} and {other.place} give {path.name} the pids {row.pid} and {other.pid}")
    if bad:
        raise DatasetError(
            f"manifest: {file} has {len(bad)} rows that repeat or contradict another: {first_three(bad)}. "
            "Keep one of each."
        )
    train = {path for path, split in seen if split == "train"}
    test = {path for path, split in seen if split != "train"}
    if both := len(train & test):
        return [f"{both} images are both in train and in query or gallery: scores on them flatter the model"]
    return []


MANIFEST = Dataset("manifest", read_manifest, None, options=("noun",))

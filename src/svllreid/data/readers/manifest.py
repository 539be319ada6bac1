"""A user's own images, listed in a CSV or Parquet file."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from svllreid.data.readers.layout import Root, contents, first_three, read_text, require_present
from svllreid.data.readers.numbers import LARGEST, Labelled, fits
from svllreid.data.readers.own_data import SPLITS, assemble
from svllreid.data.readers.record import DatasetRecord
from svllreid.errors import DatasetError
from svllreid.files import is_file, is_folder, spelled_out, user_path
from svllreid.types import PERSON, UNKNOWN, Splits

REQUIRED = ("path", "pid", "split")
OPTIONAL = ("camid", "viewid")
PARQUET = (".parquet", ".pq")
# A whole number; tools write it as 1.0 if the column has empty cells.
MEANT = {
    "camid": ("camera", "cam", "camera_id", "cam_id", "cameraid", "cid"),
    "pid": ("id", "identity", "person", "person_id", "personid", "vehicle", "vehicle_id", "vid"),
    "viewid": ("view", "view_id", "viewpoint"),
    "time": ("timestamp", "datetime", "date"),
    "tracklet": ("track", "track_id", "trackid", "tracklet_id"),
}
"""What other tools call these columns."""
INDEX = re.compile(r"(-1|\d+)(?:\.0*)?", re.ASCII)
Texts = dict[str, str]
# What pyarrow raises besides its own errors, on damaged files and on values that Python has no type for.
UNREADABLE = (OSError, ValueError, ArithmeticError, LookupError, TypeError, NotImplementedError)
# A small Parquet file can decompress to endless rows, or to endless values; hence these limits.
BATCH = 128  # rows that are read at a time
MAX_FAULTS = 1000  # after this many faulty rows the rest of a table is not read
MAX_CHARACTERS = 32_767  # no system has longer paths


@dataclass(frozen=True, slots=True)
class Row:
    """A checked row of the table; `place` says which, such as `line 7`."""

    place: str
    path: Path
    pid: str
    split: str
    camid: int
    viewid: int


def read_manifest(root: Root, *, noun: str = PERSON) -> Splits:
    """Reads a table of images from a CSV file (UTF-8, column names in the first line) or a Parquet file.

    - Columns: path (relative to the table's folder), pid, split (train, query or gallery) and, optionally, camid and
      viewid, which count from 0 (1.0 is read as 1). Other columns are ignored; a note names those that may be meant for
      one of these, such as `camera`.
    - Rows of train with an empty pid are left out, and a note counts them; so an image is dropped by emptying one cell.
    - An empty camid or viewid, or -1, means that it is not known. Cameras are known in all rows or in none.
    - Identities: int if all pids of train are numbers, else text. Query and gallery are decided together in the same
      way.
    - An image may be listed once in each split, in query and gallery under the same pid. Images that are both in train
      and at test are counted in a note.

    Args:
        root: the file.
        noun: the prompt's noun.
    Returns: splits of the protocol cross-camera, or leave-self-out if cameras are not known; samples sorted by path.
    Raises: DatasetError: the file cannot be read, lacks columns, has faulty or repeated rows, or names absent images.
    """
    file = existing_file(root)
    notes: list[str] = []
    rows, without_pid = _parse(file, read_rows(file, REQUIRED, OPTIONAL, notes))
    _check_cameras(file, rows)
    notes += _check_repeats(file, rows)
    if without_pid:
        notes.append(f"{without_pid} rows of train with an empty pid are left out")
    require_present([row.path for row in rows], "manifest", file)
    images: dict[str, list[Labelled]] = {split: [] for split in SPLITS}
    for row in rows:
        images[row.split].append(Labelled(row.path, row.pid, row.camid, row.viewid))
    return assemble("manifest", images, file, noun=noun, notes=notes)


def existing_file(root: Root) -> Path:
    """The path of a table. DatasetError where it is a folder, is missing, or is of another kind."""
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


def read_rows(
    file: Path, required: Sequence[str], optional: Sequence[str], notes: list[str]
) -> Iterator[tuple[str, Texts]]:
    """The place (such as `line 7`) and the values of every row of a CSV or Parquet table, as texts by column.

    Args:
        file: the table.
        required: columns that must be there.
        optional: further columns that are read where they are there.
        notes: gets a note on columns that are not read although their names are near to one of `optional`.
    Raises: DatasetError: the table cannot be read, or lacks a column or has it twice. It comes with the first row.
    """
    parquet = file.suffix.lower() in PARQUET
    rows = (_parquet if parquet else _csv)(file, required, optional, notes)
    for number, texts in rows:
        yield f"{'row' if parquet else 'line'} {number}", texts


def _check_columns(
    file: Path, names: Sequence[str], required: Sequence[str], optional: Sequence[str], notes: list[str]
) -> None:
    if missing := [column for column in required if column not in names]:
        raise DatasetError(
            f"manifest: {file} lacks the columns {', '.join(missing)}; it has {', '.join(names) or 'none'}. "
            f"Needed are {', '.join(required)}, separated by commas; {', '.join(optional)} are optional."
        )
    if repeated := [column for column in (*required, *optional) if names.count(column) > 1]:
        raise DatasetError(f"manifest: {file} has several columns called {', '.join(repeated)}. Keep one of each.")
    notes += _misnamed(names, required, optional)


def _misnamed(names: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """A note on columns that are not read, but may be meant for one that is optional and absent."""
    absent = [column for column in optional if column not in names]
    guesses = []
    for name in names:
        if name in (*required, *optional):
            continue
        near = [column for column in absent if name in MEANT.get(column, ())] or get_close_matches(
            name, absent, 1, 0.75
        )
        guesses += [f"{name} (rename it to {column} if that is what it holds)" for column in near]
    return [f"columns not read: {', '.join(guesses)}"] if guesses else []


def _csv(file: Path, required: Sequence[str], optional: Sequence[str], notes: list[str]) -> Iterator[tuple[int, Texts]]:
    """Line number and values of every row; a row with too many fields has their number under the name ''."""
    reader = csv.reader(io.StringIO(read_text(file, "manifest"), newline=""))
    try:
        columns = [column.strip().lower() for column in next(reader, [])]
        _check_columns(file, columns, required, optional, notes)
        for fields in reader:
            texts = dict(zip(columns, (field.strip() for field in fields), strict=False))
            if len(fields) > len(columns):
                texts[""] = str(len(fields))
            if any(texts.values()):
                yield reader.line_num, texts
    except csv.Error as error:
        raise DatasetError(f"manifest: {file}, line {reader.line_num}: {error}. Save it as CSV in UTF-8.") from error


def _parquet(
    file: Path, required: Sequence[str], optional: Sequence[str], notes: list[str]
) -> Iterator[tuple[int, Texts]]:
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
            written = table.schema_arrow.names
            columns = [column.strip().lower() for column in written]
            _check_columns(file, columns, required, optional, notes)
            wanted = {
                name: column for name, column in zip(written, columns, strict=True) if column in (*required, *optional)
            }
            batches = table.iter_batches(batch_size=BATCH, columns=list(wanted))
            records = (record for batch in batches for record in batch.to_pylist())
            for number, record in enumerate(records, start=1):
                yield number, {wanted[name]: _text(value) for name, value in record.items()}
    except (pyarrow.ArrowException, *UNREADABLE) as error:
        raise DatasetError(f"manifest: {file} cannot be read as Parquet: {error}") from error


def _text(value: Any) -> str:
    """A Parquet value as CSV would write it; whole floats, which columns with empty cells have, as integers."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _parse(file: Path, records: Iterable[tuple[str, Texts]]) -> tuple[list[Row], int]:
    """The checked rows, and how many rows of train were left out since they have no pid.

    Reading stops after MAX_FAULTS repeated rows, which `_check_repeats` then refuses.
    """
    rows: list[Row] = []
    bad: list[str] = []
    images: set[tuple[str, str]] = set()
    without_pid = 0
    for place, texts in records:
        if len(bad) + len(rows) - len(images) >= MAX_FAULTS:
            break
        fault = _fault(texts)
        if fault:
            bad.append(f"{place}: {fault}")
            continue
        if not texts.get("pid"):
            without_pid += 1
            continue
        # normpath, since a file may be spelled in two ways.
        path = Path(os.path.normpath(file.parent / spelled_out(texts["path"])))
        camid, viewid = index(texts.get("camid", "")), index(texts.get("viewid", ""))
        rows.append(Row(place, path, texts["pid"], texts["split"].lower(), camid, viewid))
        images.add((str(path), rows[-1].split))
    if bad:
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise DatasetError(f"manifest: {file} has {len(bad)} bad rows: {'; '.join(bad[:3])}{more}. Fix these rows.")
    return rows, without_pid


def _fault(texts: Texts) -> str | None:
    """What is wrong with a row; None if nothing is."""
    if fault := form_fault(texts):
        return fault
    for column in REQUIRED:
        if not texts.get(column) and (column != "pid" or texts.get("split", "").lower() != "train"):
            return f"{column} is empty"
    split = texts["split"]
    if split.lower() not in SPLITS:
        near = get_close_matches(split.lower(), SPLITS, n=1)
        return f"split {split!r} is unknown" + (
            f" (did you mean {near[0]}?)" if near else f" (one of {', '.join(SPLITS)})"
        )
    return index_fault(texts)


def form_fault(texts: Texts) -> str | None:
    """What is wrong with the number of a row's fields or with their lengths; None if nothing is."""
    if "" in texts:
        return f"{texts['']} fields, more than there are columns (quote a value that holds a comma)"
    for column, text in texts.items():
        if len(text) > MAX_CHARACTERS:
            return f"{column} has {len(text)} characters (at most {MAX_CHARACTERS})"
    return None


def index_fault(texts: Texts) -> str | None:
    """What is wrong with a row's camid or viewid; None if nothing is."""
    for column in OPTIONAL:
        text = texts.get(column, "")
        match = INDEX.fullmatch(text)
        if text and match is None:
            return f"{column} {text!r} is not a whole number from 0"
        if match and not fits(match[1].removeprefix("-")):
            return f"{column} {text[:30]!r} is above {LARGEST}"
    return None


def index(text: str) -> int:
    """A camera or viewpoint as a table writes it; UNKNOWN where the text is empty or no whole number.

    >>> index("3"), index("3.0"), index("")
    (3, 3, -1)
    """
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
    """Refuses images listed twice in a split, or under two pids at test; a note counts those in train and test."""
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


MANIFEST = DatasetRecord("manifest", read_manifest, None, options=("noun",))

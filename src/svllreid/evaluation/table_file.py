"""Features of listed images as a table in a file, Parquet or .npz: a row for each image."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import EvaluationError
from svllreid.files import atomic_write, is_file

TEXTS, NUMBERS = ("path", "pid", "split", "tracklet", "tags"), ("camid", "viewid")
PARQUET, NPZ = (".parquet", ".pq"), ".npz"
_COLUMNS = (*TEXTS, *NUMBERS, "time", "vector")
_ROW_GROUP = 4096
# A file that decodes to more is refused, as it may be made to fill the memory. Features hardly compress, labels and
# paths do.
_COMPRESSION, _UNFOLDED_BYTES = 10, 64 << 20
# The errors that NumPy and zip raise for damaged files and other kinds of files; TypeError: a file with a single array.
_UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, MemoryError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class TableBlock:
    """Some rows of the table.

    Args:
        columns: `path`, `pid`, `split`, `tracklet`, `tags` (texts, empty unknown), `camid`, `viewid` (int64, -1
            unknown) and `time` (float64 seconds since 1970, NaN unknown), each (n,). Columns
            that are left out are all unknown.
        vectors: (n, D) float32.
    """

    columns: dict[str, np.ndarray]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        unknown = {**dict.fromkeys(TEXTS, ""), **dict.fromkeys(NUMBERS, -1), "time": np.nan}
        left_out = {name: np.full(len(self.vectors), unknown[name]) for name in unknown if name not in self.columns}
        object.__setattr__(self, "columns", {**self.columns, **left_out})

    @classmethod
    def joined(cls, blocks: Iterable[TableBlock], dim: int) -> TableBlock:
        """The rows of all blocks, whose vectors have `dim` numbers, in one."""
        parts = [cls({}, np.empty((0, dim), np.float32)), *blocks]
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        return cls(columns, np.concatenate([part.vectors for part in parts]))


def check_format(path: Path) -> None:
    """Check that a table of this name can be written.

    Raises: EvaluationError: another ending, or the library for Parquet is missing.
    """
    if path.suffix.lower() not in (*PARQUET, NPZ):
        raise EvaluationError(f"{path}: features are written as .parquet or .npz; give such a name")
    if path.suffix.lower() in PARQUET:
        _pyarrow(path)


def check_texts(path: Path, texts: Iterable[str]) -> None:
    """Check that a table of this name can hold these texts.

    Raises: EvaluationError: Parquet holds Unicode only, which names of files need not be.
    """
    for text in texts if path.suffix.lower() in PARQUET else ():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise EvaluationError(
                f"{path}: {text!a} is not Unicode, as Parquet needs it; rename it, or name an .npz file"
            ) from None


def write_table(path: Path, blocks: Iterable[TableBlock], spec: EmbeddingSpec) -> int:
    """Write the table atomically, a row group for each block of a Parquet file; returns the number of rows.

    Args:
        path: ends in .parquet, .pq or .npz.
        blocks: the rows; of Parquet one block at a time is in memory.
        spec: the record of the model, which goes into the file.
    Raises: EvaluationError: see `check_format` and `check_texts`. OutputError: the file cannot be written.
    """
    check_format(path)
    with atomic_write(path) as temporary:
        if path.suffix.lower() in PARQUET:
            return _write_parquet(path, temporary, blocks, spec)
        whole = TableBlock.joined(blocks, spec.dim)
        arrays: dict[str, Any] = whole.columns
        with temporary.open("wb") as file:
            np.savez(file, vectors=whole.vectors, embedding=json.dumps(spec.to_dict()), **arrays)
        return len(whole.vectors)


def _write_parquet(path: Path, temporary: Path, blocks: Iterable[TableBlock], spec: EmbeddingSpec) -> int:
    pyarrow = _pyarrow(path)
    fields = [(name, pyarrow.string()) for name in TEXTS] + [(name, pyarrow.int64()) for name in NUMBERS]
    fields += [("time", pyarrow.float64()), ("vector", pyarrow.list_(pyarrow.float32(), spec.dim))]
    schema = pyarrow.schema(fields, metadata={"embedding": json.dumps(spec.to_dict())})
    count = 0
    with pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for block in blocks:
            for name in TEXTS:
                check_texts(path, block.columns[name].tolist())
            columns: dict[str, Any] = {
                name: pyarrow.array([text or None for text in block.columns[name].tolist()], pyarrow.string())
                for name in TEXTS
            }
            for name in NUMBERS:
                values = block.columns[name]
                columns[name] = pyarrow.array(values, pyarrow.int64(), mask=values < 0)
            times = block.columns["time"]
            columns["time"] = pyarrow.array(times, pyarrow.float64(), mask=np.isnan(times))
            flat = pyarrow.array(np.ascontiguousarray(block.vectors, np.float32).ravel())
            columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, spec.dim)
            writer.write_table(pyarrow.table(columns, schema=schema), row_group_size=_ROW_GROUP)
            count += len(times)
    return count


def read_table(path: Path) -> tuple[TableBlock, EmbeddingSpec | None]:
    """Read a Parquet table of features whole.

    Returns: its rows, and the record of the model; None where the file has none.
    Raises: EvaluationError: it is not such a table, or is damaged.
    """
    pyarrow = _pyarrow(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        missing = [name for name in ("path", "vector") if name not in schema.names]
        if missing:
            raise ValueError(f"it lacks the columns {', '.join(missing)}")
        width = schema.field("vector").type.list_size
        if 4 * width * rows > _COMPRESSION * path.stat().st_size + _UNFOLDED_BYTES:
            raise ValueError(f"its vectors would unfold to {4 * width * rows / 1e9:.1f} GB")
        table = pyarrow.parquet.read_table(path, columns=[n for n in _COLUMNS if n in schema.names])
        column = table.column("vector").combine_chunks()
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        if len(vectors) != table.num_rows or column.null_count:
            raise ValueError("vectors are missing")
        columns = {name: _column(table, name) for name in (*TEXTS, *NUMBERS, "time")}
        record = (table.schema.metadata or {}).get(b"embedding")
        content = None if record is None else json.loads(record)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise EvaluationError(
            f"{path} is not a readable table of features ({error}); give a file that `svllreid embed` wrote"
        ) from None
    spec = None if content is None else EmbeddingSpec.from_dict(content, f"{path}: embedding")
    return TableBlock(columns, vectors), spec


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz archive, read without pickle.

    Raises: EvaluationError: it is not such an archive, is damaged, or unfolds to far more than features would.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            unfolded = sum(entry.file_size for entry in archive.zip.infolist())
            if unfolded > _COMPRESSION * path.stat().st_size + _UNFOLDED_BYTES:
                raise ValueError(f"it would unfold to {unfolded / 1e9:.1f} GB")
            return {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise EvaluationError(f"{path} is not a readable .npz archive of plain arrays: {error}") from None


def holds_features(path: Path) -> bool:
    """Whether this is a table of features, and not one of images: an .npz file, or Parquet with a column `vector`.

    Raises: EvaluationError: a Parquet file, and the library for it is missing.
    """
    if path.suffix.lower() == NPZ:
        return True
    if path.suffix.lower() not in PARQUET or not is_file(path):
        return False
    pyarrow = _pyarrow(path)
    try:
        return "vector" in pyarrow.parquet.read_schema(path).names
    except (pyarrow.ArrowException, OSError, ValueError):
        return False  # whoever reads it as a table of images says what is wrong


def read_features(path: Path) -> tuple[TableBlock, EmbeddingSpec | None]:
    """Read a table of features, Parquet or .npz, whole; the arguments and errors are those of `read_table`."""
    if not is_file(path):
        raise EvaluationError(f"{path} does not exist; give a file that `svllreid embed` wrote")
    if path.suffix.lower() in PARQUET:
        return read_table(path)
    arrays = read_arrays(path)
    if "vectors" not in arrays:
        raise EvaluationError(
            f"{path} has no array vectors, it has {', '.join(arrays) or 'none'}; give one that `svllreid embed` wrote"
        )
    return table_of_arrays(path, arrays)


def table_of_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[TableBlock, EmbeddingSpec | None]:
    """As `read_table`, of the arrays of an .npz archive, which are named as the columns; `vectors` must be there.

    Args:
        path: the archive, for messages.
        arrays: what it holds.
    Raises: EvaluationError: arrays of other shapes or types.
    """
    vectors = arrays["vectors"]
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise EvaluationError(f"{path}: vectors are {vectors.dtype} of shape {vectors.shape}; give floats (n, D)")
    count, columns = len(vectors), dict[str, np.ndarray]()
    defaults: dict[str, tuple[Any, str]] = {
        **dict.fromkeys(TEXTS, ("", "U")),
        **dict.fromkeys(NUMBERS, (-1, "iu")),
        "time": (np.nan, "f"),
    }
    for name, (missing, kinds) in defaults.items():
        values = arrays.get(name, np.full(count, missing))
        if values.shape != (count,) or (count and values.dtype.kind not in kinds):
            raise EvaluationError(f"{path}: {name} is {values.dtype} of shape {values.shape}; give one for each vector")
        columns[name] = values
    spec = None
    if "embedding" in arrays:
        try:
            content = json.loads(str(arrays["embedding"]))
        except ValueError as error:
            raise EvaluationError(f"{path}: embedding is not JSON ({error}); embed the images again") from None
        spec = EmbeddingSpec.from_dict(content, f"{path}: embedding")
    return TableBlock(columns, vectors), spec


def _column(table: Any, name: str) -> np.ndarray:
    """A column with what is missing filled in."""
    if name not in table.column_names:
        values: list[Any] = [None] * table.num_rows
    else:
        values = table.column(name).to_pylist()
    if name in TEXTS:
        if faulty := [value for value in values if not isinstance(value, str | int | None)]:
            raise ValueError(f"{name} {faulty[0]!r} is no text")
        return np.array(["" if value is None else str(value) for value in values] or np.empty(0), dtype=str)
    if name in NUMBERS:
        whole = [-1 if value is None else int(value) for value in values]
        if faulty := [value for value, number in zip(values, whole, strict=True) if value not in (None, number)]:
            raise ValueError(f"{name} {faulty[0]!r} is no whole number")
        return np.array(whole, np.int64)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise EvaluationError(
            f"{path}: Parquet needs pyarrow; install it with: pip install 'svllreid[parquet]', or name an .npz file"
        ) from None
    return pyarrow

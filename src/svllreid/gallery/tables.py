"""Crops of a gallery as rows of a table of features, and back."""

from __future__ import annotations

import hashlib
import re
import time as clock
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from svllreid.evaluation.table_file import TableBlock
from svllreid.gallery.conditions import moment
from svllreid.gallery.crop import TAG_END, Crop, clean_tags, file_digest, stored_path
from svllreid.types import Pid

_NUMBER = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)
_ROWS = 1024


def table_of_crops(crops: Sequence[Crop], vectors: np.ndarray) -> TableBlock:
    """Rows of the table for crops with their vectors (n, D)."""
    return TableBlock(
        {
            "path": np.array([crop.path for crop in crops], dtype=str),
            "pid": np.array(["" if crop.pid is None else str(crop.pid) for crop in crops], dtype=str),
            "tracklet": np.array([crop.tracklet for crop in crops], dtype=str),
            "tags": np.array([TAG_END.join(crop.tags) for crop in crops], dtype=str),
            "camid": np.array([crop.camid for crop in crops], np.int64),
            "time": np.array([np.nan if crop.time is None else crop.time for crop in crops], np.float64),
        },
        vectors,
    )


def crops_of_table(blocks: Iterable[TableBlock], tags: Sequence[str] = ()) -> Iterator[tuple[list[Crop], np.ndarray]]:
    """Crops with their vectors, some rows at a time.

    `tags` are given to all of them. A crop's id is SHA-256 of its file, or where that cannot be read of its vector.
    Identities that are written as numbers become numbers.
    """
    for block in blocks:
        for start in range(0, len(block.vectors), _ROWS):
            rows = range(start, min(start + _ROWS, len(block.vectors)))
            yield [_crop(block, row, tags) for row in rows], np.ascontiguousarray(block.vectors[rows.start : rows.stop])


def _crop(block: TableBlock, row: int, tags: Sequence[str]) -> Crop:
    columns = block.columns
    path, time = str(columns["path"][row]), float(columns["time"][row])
    absolute = stored_path(path) if path else ""
    return Crop(
        _digest(absolute, block.vectors[row]),
        absolute,
        pid_of(str(columns["pid"][row])),
        int(columns["camid"][row]),
        None if np.isnan(time) else moment(time),
        str(columns["tracklet"][row]),
        clean_tags([*tags, *clean_tags(str(columns["tags"][row]))]),
        added=clock.time(),
    )


def pid_of(text: str) -> Pid | None:
    """An identity as a table writes it: a number if it is one without leading zeros, None where it is empty.

    >>> pid_of("12"), pid_of("0012"), pid_of("")
    (12, '0012', None)
    """
    return int(text) if _NUMBER.fullmatch(text) else text or None


def _digest(path: str, vector: np.ndarray) -> str:
    try:
        return file_digest(Path(path))
    except OSError:
        return hashlib.sha256(np.ascontiguousarray(vector, np.float32).tobytes()).hexdigest()

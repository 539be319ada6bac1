"""Readers: folders and list files into records of (path, pid, camid, viewid); one dataset a file, no pixels read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from svllreid.data.readers.dukemtmc import read_dukemtmc, read_occ_duke
from svllreid.data.readers.folder import read_folder
from svllreid.data.readers.join import distinct, hold_out, join
from svllreid.data.readers.layout import Root
from svllreid.data.readers.manifest import read_manifest
from svllreid.data.readers.market1501 import read_market1501
from svllreid.data.readers.msmt17 import read_msmt17
from svllreid.data.readers.statistics import STATISTICS, Comparison, Published, check, compare, summarise
from svllreid.data.readers.vehicleid import read_vehicleid
from svllreid.data.readers.veri import read_veri
from svllreid.errors import DatasetError
from svllreid.types import Splits

__all__ = [
    "READERS",
    "STATISTICS",
    "Comparison",
    "Published",
    "check",
    "compare",
    "distinct",
    "hold_out",
    "join",
    "read",
    "reader",
]

READERS: dict[str, Callable[..., Splits]] = {
    "market1501": read_market1501,
    "dukemtmc": read_dukemtmc,
    "occ_duke": read_occ_duke,
    "msmt17": read_msmt17,
    "veri": read_veri,
    "VehicleID": read_vehicleid,
    "folder": read_folder,
    "manifest": read_manifest,
}


def reader(name: str) -> Callable[..., Splits]:
    """The reader of a DATASETS.NAMES value.

    Raises: DatasetError: an unknown name.
    """
    if name not in READERS:
        lower = {known.lower(): known for known in READERS}
        near = get_close_matches(name.lower(), lower, n=1)
        hint = f"did you mean {lower[near[0]]}? " if near else ""
        raise DatasetError(f"Unknown dataset {name!r}: {hint}DATASETS.NAMES knows {', '.join(READERS)}.")
    return READERS[name]


def read(name: str, root: Root, **options: Any) -> Splits:
    """Reads a dataset by its DATASETS.NAMES value.

    Args:
        name: a key of READERS.
        root: DATASETS.ROOT_DIR.
        options: the reader's own: `views_dir` and `drop_unlabelled_test` of veri, `test_size` of VehicleID, `noun` of
            folder and manifest.
    Returns: the splits, whose notes also say how their counts differ from the published ones.
    Raises: DatasetError: an unknown name, or a dataset that cannot be read.
    """
    splits = reader(name)(root, **options)
    return replace(splits, notes=(*splits.notes, *summarise(check(name, splits))))

"""Readers: folders and list files into records of (path, pid, camid, viewid); one dataset a file, no pixels read."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from svllreid.data.readers.cuhk03 import CUHK03_DETECTED, CUHK03_LABELLED
from svllreid.data.readers.dukemtmc import DUKEMTMC, OCC_DUKE
from svllreid.data.readers.folder import FOLDER
from svllreid.data.readers.join import distinct, hold_out, join
from svllreid.data.readers.layout import Root
from svllreid.data.readers.manifest import MANIFEST
from svllreid.data.readers.market1501 import MARKET1501
from svllreid.data.readers.msmt17 import MSMT17
from svllreid.data.readers.record import Dataset, Published
from svllreid.data.readers.statistics import Comparison, check, compare, summarise
from svllreid.data.readers.vehicleid import VEHICLEID
from svllreid.data.readers.veri import VERI
from svllreid.errors import DatasetError
from svllreid.types import Splits

__all__ = [
    "DATASETS",
    "Comparison",
    "Dataset",
    "Published",
    "check",
    "compare",
    "dataset",
    "distinct",
    "hold_out",
    "join",
    "read",
]

# A new dataset is a file with its reader and record, and a name here.
DATASETS = {
    record.name: record
    for record in (
        MARKET1501,
        DUKEMTMC,
        OCC_DUKE,
        MSMT17,
        VERI,
        VEHICLEID,
        CUHK03_LABELLED,
        CUHK03_DETECTED,
        FOLDER,
        MANIFEST,
    )
}


def dataset(name: str) -> Dataset:
    """The record of a dataset.

    Raises: DatasetError: an unknown name.
    """
    if name not in DATASETS:
        lower = {known.lower(): known for known in DATASETS}
        near = get_close_matches(name.lower(), lower, n=1)
        hint = f"did you mean {lower[near[0]]}? " if near else ""
        raise DatasetError(f"unknown dataset {name!r}: {hint}known are {', '.join(DATASETS)}", settings=("dataset",))
    return DATASETS[name]


def read(name: str, root: Root, **options: Any) -> Splits:
    """Reads a dataset by its name.

    Args:
        name: a key of DATASETS.
        root: the folder that holds the dataset, or of `manifest` the file.
        options: those that the dataset's record names.
    Returns: the splits, whose notes also say how their counts differ from the published ones.
    Raises: DatasetError: an unknown name, or a dataset that cannot be read.
    """
    record = dataset(name)
    splits = record.read(root, **options)
    return replace(splits, notes=(*splits.notes, *summarise(check(record, splits))))

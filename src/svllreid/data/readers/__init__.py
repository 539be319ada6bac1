"""Readers turn a dataset's folders and list files into samples; each dataset has a file. No pixels are read."""

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
from svllreid.data.readers.record import DatasetRecord, Published
from svllreid.data.readers.statistics import Comparison, check, compare, summarise
from svllreid.data.readers.vehicleid import VEHICLEID
from svllreid.data.readers.veri import VERI
from svllreid.errors import DatasetError
from svllreid.types import Splits

__all__ = [
    "DATASETS",
    "Comparison",
    "DatasetRecord",
    "Published",
    "check",
    "compare",
    "dataset",
    "distinct",
    "hold_out",
    "join",
    "read",
]

# All datasets by name. A new one is a file with its reader and record, and a line here.
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


def dataset(name: str) -> DatasetRecord:
    """The record of a dataset, which tells what is known of it before its files are read.

    >>> dataset("market1501").published.train_ids
    751
    >>> dataset("market1510")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    svllreid.errors.DatasetError: unknown dataset 'market1510': did you mean market1501? known are market1501, ...

    Raises: DatasetError: the name is unknown.
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
        options: keyword arguments of the dataset's reader, see `DatasetRecord.options`.
    Returns: the splits. Their notes also name the counts that differ from the published ones.
    Raises: DatasetError: the name is unknown, or the dataset cannot be read.
    """
    record = dataset(name)
    splits = record.read(root, **options)
    return replace(splits, notes=(*splits.notes, *summarise(check(record, splits))))

"""MSMT17, versions 1 and 2."""

from __future__ import annotations

import re
from pathlib import Path

from svllreid.data.readers.layout import (
    Root,
    contents,
    each_once,
    first_three,
    locate,
    read_list,
    require_folder,
    require_present,
)
from svllreid.data.readers.numbers import Labelled, numbered, require_cameras_fit, to_samples
from svllreid.data.readers.record import DatasetRecord, Published
from svllreid.errors import DatasetError
from svllreid.files import is_folder
from svllreid.types import Splits

FOLDER = "MSMT17"
V1_FOLDERS = ("train", "test")
V2_FOLDERS = ("mask_train_v2", "mask_test_v2")
# The group is the camera, counted from 1: the third field between underscores.
NAME = re.compile(r"[^_]*_[^_]*_0*([1-9]\d*)_", re.ASCII)


def read_msmt17(root: Root) -> Splits:
    """Reads MSMT17; train holds the images of list_train and of list_val.

    Layout: `MSMT17/{train,test}` (or `mask_train_v2`, `mask_test_v2`), and `MSMT17/list_{train,val,query,gallery}.txt`
    of lines `0000/0000_000_01_0303morning_0015_0.jpg 0`, also with backslashes. Identities are counted from 0 in train
    and again in test, so equal numbers there are different people.

    Args:
        root: the folder that holds `MSMT17`, or that folder itself.
    Returns: cross-camera splits, cameras zero-based, samples sorted by path; a note says which version was found.
    Raises: DatasetError: folders, lists or listed images are missing; lines or file names have another form; or a split
        has an image under two identities.
    Source: Wei et al. 2018, arXiv:1711.08565.
    """
    dataset = locate(root, "msmt17", FOLDER, V1_FOLDERS + V2_FOLDERS)
    train, test, version = _folders(dataset)
    lists = {"list_train.txt": train, "list_val.txt": train, "list_query.txt": test, "list_gallery.txt": test}
    learned, validated, query, gallery = (_read(dataset, folder, name) for name, folder in lists.items())
    splits = to_samples(numbered, learned + validated, query, gallery)
    train_samples, q_samples, g_samples = (each_once(samples, "msmt17", "the lists") for samples in splits)
    return Splits("msmt17", train_samples, q_samples, g_samples, notes=(version,))


def _folders(dataset: Path) -> tuple[Path, Path, str]:
    """The image folders of train and test, and a note on the version that they show."""
    present = [folders for folders in (V1_FOLDERS, V2_FOLDERS) if any(is_folder(dataset / part) for part in folders)]
    if not present:
        raise DatasetError(
            f"msmt17: {dataset} has neither train and test nor mask_train_v2 and mask_test_v2; {contents(dataset)}. "
            "Unpack the whole archive."
        )
    train, test = (require_folder(dataset, part, "msmt17") for part in present[0])
    # Code that knows only the old names is often given a link from train to mask_train_v2.
    if train.resolve().name == V2_FOLDERS[0]:
        return train, test, "MSMT17 V2 (mask_train_v2): faces are blurred, mAP is several points below V1"
    beside = "; mask_train_v2 lies beside it and is not read" if len(present) > 1 else ""
    return train, test, f"MSMT17 V1, or V2 renamed, which folders named train and test cannot tell{beside}"


def _read(dataset: Path, folder: Path, list_name: str) -> list[Labelled]:
    source = dataset / list_name
    images, bad = [], []
    for line in read_list(source, "msmt17"):
        path = folder / line.image.replace("\\", "/")  # lists written on Windows
        match = NAME.match(path.name)
        if match:
            images.append((path, line.identity, match[1]))
        else:
            bad.append(f"line {line.number} {line.image}")
    if bad:
        raise DatasetError(
            f"msmt17: {len(bad)} names in {source} have no camera (counted from 1) as third field, as "
            f"0000_000_01_0303morning_0015_0.jpg has: {first_three(bad)}. Unpack the list again."
        )
    require_cameras_fit("msmt17", source, ((path.name, camera) for path, _, camera in images))
    require_present([path for path, _, _ in images], "msmt17", source)
    return [Labelled(path, identity, int(camera) - 1) for path, identity, camera in images]


def _cause(splits: Splits, what: str, fewer: bool) -> str | None:
    if any("V2" in note for note in splits.notes):
        return "a mixture of MSMT17 V1 and V2 (see the notes), or a partial unzip or copy"
    return None


MSMT17 = DatasetRecord(
    "msmt17", read_msmt17, Published(1_041, (32_621, 32_621), 11_659, 82_161, 15), numbered_apart=True, cause=_cause
)

"""A user's own images, one folder an identity."""

from __future__ import annotations

import re
from pathlib import Path

from svllreid.data.readers.layout import (
    IMAGE_SUFFIXES,
    Root,
    contents,
    existing_folder,
    first_three,
    list_folders,
    list_images,
)
from svllreid.data.readers.own_data import SPLITS, assemble, identities
from svllreid.errors import DatasetError
from svllreid.types import UNKNOWN, Sample, Splits

CAMERA = re.compile(r"_c(\d+)", re.ASCII)


def read_folder(root: Root, *, noun: str = "person") -> Splits:
    """Reads `root/{train,query,gallery}/<identity>/*.jpg`.

    A camera is the first `_c<k>` in the file name, k counting from 1; either every file has one or none has. Identities
    that are all numbers become int, else all stay text. `train` may be missing (testing only), as may `query` and
    `gallery` together (training only). Images that lie beside the identity folders are left out and counted.

    Args:
        root: the folder with the splits.
        noun: the prompt's noun.
    Returns: cross-camera splits, or leave-self-out where cameras are unknown; cameras zero-based, samples sorted.
    Raises: DatasetError: no split folder, only one of query and gallery, no image, or cameras in some names only.
    """
    base = existing_folder(root, "folder", "train, query and gallery")
    found, notes = _find(base)
    everything = [item for items in found.values() for item in items]
    cameras = _cameras([path for _, path in everything], base)
    pids = identities(identity for identity, _ in everything)
    samples = {
        split: [Sample(path, pids[identity], cameras[path]) for identity, path in items]
        for split, items in found.items()
    }
    return assemble("folder", samples, base, noun=noun, notes=notes)


def _find(base: Path) -> tuple[dict[str, list[tuple[str, Path]]], list[str]]:
    """Identity and path of every image of each split, and notes on what was left out."""
    present = [split for split in SPLITS if (base / split).is_dir()]
    if not present:
        raise DatasetError(
            f"folder: {base} has none of the folders train, query, gallery; {contents(base)}. "
            "Lay the images out as train/<identity>/*.jpg, query/<identity>/*.jpg, gallery/<identity>/*.jpg."
        )
    found: dict[str, list[tuple[str, Path]]] = {split: [] for split in SPLITS}
    notes = []
    for split in present:
        for identity in list_folders(base / split):
            folder = base / split / identity
            found[split] += [(identity, folder / name) for name in list_images(folder)]
        if not found[split]:
            raise DatasetError(
                f"folder: {base / split} has no image ({', '.join(IMAGE_SUFFIXES)}) in a folder of its identity; "
                f"{contents(base / split)}. Lay the images out as {split}/<identity>/*.jpg, or remove {split}."
            )
        if loose := len(list_images(base / split)):
            notes.append(f"{split}: {loose} images in no identity folder left out")
    return found, notes


def _cameras(paths: list[Path], base: Path) -> dict[Path, int]:
    """Zero-based camera of every path, or UNKNOWN of every path."""
    matches = {path: CAMERA.search(path.stem) for path in paths}
    without = [str(path.relative_to(base)) for path, match in matches.items() if match is None]
    if len(without) == len(paths):
        return dict.fromkeys(paths, UNKNOWN)
    if without:
        raise DatasetError(
            f"folder: {len(without)} of {len(paths)} files in {base} have no camera _c<k> in their names: "
            f"{first_three(without)}. Name the camera in every file, or in none."
        )
    cameras = {path: int(match[1]) - 1 for path, match in matches.items() if match}
    if zeros := [str(path.relative_to(base)) for path, camera in cameras.items() if camera < 0]:
        raise DatasetError(
            f"folder: {len(zeros)} files in {base} name camera 0: {first_three(zeros)}. In file names cameras count from 1: _c1 is camid 0."
        )
    return cameras

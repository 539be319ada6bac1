"""A user's own images, one folder an identity."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from svllreid.data.readers.layout import (
    Listing,
    Root,
    contents,
    existing_folder,
    first_three,
    list_folder,
    note,
    others_note,
)
from svllreid.data.readers.numbers import Labelled, require_cameras_fit
from svllreid.data.readers.own_data import SPLITS, assemble
from svllreid.data.readers.record import Dataset
from svllreid.errors import DatasetError
from svllreid.files import is_folder
from svllreid.types import PERSON, UNKNOWN, Splits

CAMERA = re.compile(r"_c(\d+)", re.ASCII)


def read_folder(root: Root, *, noun: str = PERSON) -> Splits:
    """Reads `root/{train,query,gallery}/<identity>/*.jpg`.

    A camera is the first `_c<k>` in the file name, k counting from 1; either every file has one or none has. Training
    identities that are all numbers become int, else all stay text; those of query and gallery likewise. `train` may be
    missing (testing only), as may `query` and `gallery` together (training only). Images in sub-folders, or in folders
    that a link leads to, belong to the identity folder above. Images beside the identity folders, files that are no
    images, other folders and identity folders without an image are left out, and notes count and name them.

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
    images = {
        split: [Labelled(path, identity, cameras[path]) for identity, path in items] for split, items in found.items()
    }
    return assemble("folder", images, base, noun=noun, notes=notes)


def _find(base: Path) -> tuple[dict[str, list[tuple[str, Path]]], list[str]]:
    """Identity and path of every image of each split, and notes on what was left out."""
    top = list_folder(base)
    present = [split for split in SPLITS if is_folder(base / split)]
    if not present:
        raise DatasetError(
            f"folder: {base} has none of the folders train, query, gallery; {contents(base)}. "
            "Lay the images out as train/<identity>/*.jpg, query/<identity>/*.jpg, gallery/<identity>/*.jpg."
        )
    found: dict[str, list[tuple[str, Path]]] = {split: [] for split in SPLITS}
    # By file, not by name: some systems take Train for train.
    unread = [name for name in top.folders if not any((base / name).samefile(base / split) for split in present)]
    notes = note(str(base), "folders besides train, query and gallery passed over", unread)
    notes += note(str(base), "images in none of train, query and gallery left out", top.images)
    for split in present:
        found[split], said = _find_split(base / split)
        notes += said
        if not found[split]:
            raise DatasetError(
                f"folder: {base / split} has no image in a folder of its identity; {contents(base / split)}. "
                f"Lay the images out as {split}/<identity>/*.jpg, or remove {split}."
            )
    return found, notes


def _find_split(folder: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """Identity and path of every image below a split's folder, and notes on what was left out."""
    top = list_folder(folder)
    found: list[tuple[str, Path]] = []
    without: list[str] = []
    nested: list[str] = []
    others = list(top.others)
    for identity in top.folders:
        images: list[Path] = []
        for place, listing in _below(folder / identity):
            images += [place / name for name in listing.images]
            others += [(place / name).relative_to(folder).as_posix() for name in listing.others]
        found += [(identity, path) for path in images]
        nested += [path.relative_to(folder).as_posix() for path in images if path.parent != folder / identity]
        if not images:
            without.append(identity)
    notes = note(folder.name, "images in no identity folder left out", top.images)
    notes += note(folder.name, "identity folders without an image", without)
    notes += note(folder.name, "images in sub-folders, taken for the identity of the folder above", nested)
    return found, notes + others_note(folder.name, others)


def _below(folder: Path) -> Iterator[tuple[Path, Listing]]:
    """A folder and those below it with what lies in each: each real folder once, however many links lead to it.

    Links back to a folder above lead to other identities, and are not followed.
    """
    waiting, met = [folder], {str(above) for above in folder.resolve().parents}
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real not in met:
            met.add(real)
            listing = list_folder(place)
            yield place, listing
            waiting += [place / name for name in reversed(listing.folders)]


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
    said = {path: match[1] for path, match in matches.items() if match}
    require_cameras_fit("folder", base, ((str(path.relative_to(base)), digits) for path, digits in said.items()))
    cameras = {path: int(digits) - 1 for path, digits in said.items()}
    if zeros := [str(path.relative_to(base)) for path, camera in cameras.items() if camera < 0]:
        raise DatasetError(
            f"folder: {len(zeros)} files in {base} name camera 0: {first_three(zeros)}. In file names "
            "cameras count from 1: _c1 is camid 0."
        )
    return cameras


FOLDER = Dataset("folder", read_folder, None, options=("noun",))

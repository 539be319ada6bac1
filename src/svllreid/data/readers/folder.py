"""A user's own images, in a folder for each identity."""

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
from svllreid.data.readers.record import DatasetRecord
from svllreid.errors import DatasetError
from svllreid.files import is_folder
from svllreid.types import PERSON, UNKNOWN, Splits

CAMERA = re.compile(r"_c(\d+)", re.ASCII)


def read_folder(root: Root, *, noun: str = PERSON) -> Splits:
    """Reads a user's images from `root/{train,query,gallery}/<identity>/*.jpg`.

    - Cameras: the first `_c<k>` in a file's name, k counting from 1. Either all files name their camera, or none does.
    - Identities: int if the names of all training folders are numbers, else text. Query and gallery are decided
      together in the same way.
    - Splits: `train` may be missing, for testing only; so may `query` and `gallery` together, for training only.
    - Images in sub-folders, and in folders behind links, belong to the identity whose folder holds them.
    - Images outside identity folders, files that are not images, other folders, and identity folders without an image
      are left out; notes count and name them.

    Args:
        root: the folder that holds the splits.
        noun: the prompt's noun.
    Returns: splits of the protocol cross-camera, or leave-self-out if cameras are not known; samples are sorted.
    Raises: DatasetError: there is no split folder, only one of query and gallery, or no image; or only some files name
        their camera.
    """
    base = existing_folder(root, "folder", "train, query and gallery")
    files, notes = _find(base)
    cameras = _cameras([path for items in files.values() for _, path in items], base)
    images = {
        split: [Labelled(path, identity, cameras[path]) for identity, path in items] for split, items in files.items()
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
    images: dict[str, list[tuple[str, Path]]] = {split: [] for split in SPLITS}
    # Folders are compared as files, not by name: on some systems Train and train are the same folder.
    unread = [name for name in top.folders if not any((base / name).samefile(base / split) for split in present)]
    notes = note(str(base), "folders besides train, query and gallery passed over", unread)
    notes += note(str(base), "images in none of train, query and gallery left out", top.images)
    for split in present:
        images[split], split_notes = _find_split(base / split)
        notes += split_notes
        if not images[split]:
            raise DatasetError(
                f"folder: {base / split} has no image in a folder of its identity; {contents(base / split)}. "
                f"Lay the images out as {split}/<identity>/*.jpg, or remove {split}."
            )
    return images, notes


def _find_split(folder: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """Identity and path of every image below a split's folder, and notes on what was left out."""
    top = list_folder(folder)
    labelled: list[tuple[str, Path]] = []
    without: list[str] = []
    nested: list[str] = []
    others = list(top.others)
    for identity in top.folders:
        images: list[Path] = []
        for place, listing in below(folder / identity):
            images += [place / name for name in listing.images]
            others += [(place / name).relative_to(folder).as_posix() for name in listing.others]
        labelled += [(identity, path) for path in images]
        nested += [path.relative_to(folder).as_posix() for path in images if path.parent != folder / identity]
        if not images:
            without.append(identity)
    notes = note(folder.name, "images in no identity folder left out", top.images)
    notes += note(folder.name, "identity folders without an image", without)
    notes += note(folder.name, "images in sub-folders, taken for the identity of the folder above", nested)
    return labelled, notes + others_note(folder.name, others)


def below(folder: Path) -> Iterator[tuple[Path, Listing]]:
    """Lists a folder and all folders below it; each real folder once, even if several links lead to it.

    Links to a folder above are not followed, since they lead to other identities.
    """
    waiting, visited = [folder], {str(above) for above in folder.resolve().parents}
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real not in visited:
            visited.add(real)
            listing = list_folder(place)
            yield place, listing
            waiting += [place / name for name in reversed(listing.folders)]


def _cameras(paths: list[Path], base: Path) -> dict[Path, int]:
    """The zero-based camera of every path; UNKNOWN for all if no file names its camera."""
    matches = {path: CAMERA.search(path.stem) for path in paths}
    without = [str(path.relative_to(base)) for path, match in matches.items() if match is None]
    if len(without) == len(paths):
        return dict.fromkeys(paths, UNKNOWN)
    if without:
        raise DatasetError(
            f"folder: {len(without)} of {len(paths)} files in {base} have no camera _c<k> in their names: "
            f"{first_three(without)}. Name the camera in every file, or in none."
        )
    numbers = {path: match[1] for path, match in matches.items() if match}
    require_cameras_fit("folder", base, ((str(path.relative_to(base)), digits) for path, digits in numbers.items()))
    cameras = {path: int(digits) - 1 for path, digits in numbers.items()}
    if zeros := [str(path.relative_to(base)) for path, camera in cameras.items() if camera < 0]:
        raise DatasetError(
            f"folder: {len(zeros)} files in {base} name camera 0: {first_three(zeros)}. In file names "
            "cameras count from 1: _c1 is camid 0."
        )
    return cameras


FOLDER = DatasetRecord("folder", read_folder, None, options=("noun",))

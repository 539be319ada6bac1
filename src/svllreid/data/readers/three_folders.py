"""Datasets in three folders, with identity and camera in the file names: Market-1501, DukeMTMC-reID, CUHK03, VeRi."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from svllreid.data.readers.layout import (
    Root,
    contents,
    first_three,
    list_folder,
    locate,
    note,
    others_note,
    require_folder,
)
from svllreid.data.readers.numbers import Labelled, numbered, require_cameras_fit, to_samples
from svllreid.errors import DatasetError
from svllreid.types import PERSON, Splits

JUNK = "-1"
# Group 1 is the identity, group 2 the camera, counted from 1, as in `0002_c1s1_`, `0005_c2_` and `0001_c001_`.
NAME = re.compile(r"(-1|\d+)_c0*([1-9]\d*)(?:s\d+)?_", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of a dataset in three folders.

    Args:
        name: the reader's name.
        folder: the dataset's folder as its authors distribute it.
        train, query, gallery: the names of its sub-folders.
        example: a file name of the dataset, for messages.
        noun: the prompt's noun.
    """

    name: str
    folder: str
    example: str
    train: str = "bounding_box_train"
    query: str = "query"
    gallery: str = "bounding_box_test"
    noun: str = PERSON

    @property
    def parts(self) -> tuple[str, str, str]:
        """The three sub-folders: train, query, gallery."""
        return self.train, self.query, self.gallery


def find(root: Root, layout: Layout) -> Path:
    """Finds the dataset's folder and checks that it has the three sub-folders.

    Raises: DatasetError: a folder is missing.
    """
    dataset = locate(root, layout.name, layout.folder, layout.parts)
    for part in layout.parts:
        require_folder(dataset, part, layout.name)
    return dataset


def read_three_folders(root: Root, layout: Layout) -> Splits:
    """Reads train, query and gallery; identities and cameras come from the file names.

    Images of identity -1 (junk), sub-folders, and files that are not images are left out; notes count them.

    Args:
        root: the folder that holds the dataset's folder, or that folder itself.
        layout: the names of the dataset's folders.
    Returns: cross-camera splits; samples sorted by file name, cameras zero-based.
    Raises: DatasetError: a folder is missing, a split has no images, or file names have another form.
    """
    dataset = find(root, layout)
    splits, notes = [], []
    for part in layout.parts:
        listing = list_folder(dataset / part)
        images = _read_names(dataset / part, listing.images, layout)
        notes += note(part, "folders passed over with all they hold", listing.folders)
        notes += others_note(part, listing.others)
        kept = [image for image in images if image.identity != JUNK]
        if len(kept) < len(images):
            notes.append(f"{part}: {len(images) - len(kept)} junk images (identity -1) dropped")
        if not kept:
            raise DatasetError(
                f"{layout.name}: {dataset / part} holds no image to use; {contents(dataset / part)}. "
                "Unpack the archive again."
            )
        splits.append(kept)
    train, query, gallery = to_samples(numbered, *splits)
    return Splits(layout.name, train, query, gallery, noun=layout.noun, notes=tuple(notes))


def _read_names(folder: Path, names: Sequence[str], layout: Layout) -> list[Labelled]:
    matches = {name: NAME.match(name) for name in names}
    if bad := [name for name, match in matches.items() if match is None]:
        raise DatasetError(
            f"{layout.name}: {len(bad)} of {len(names)} file names in {folder} do not say identity and camera "
            f"(cameras count from 1) as {layout.example} does: {first_three(bad)}. Rename or remove them."
        )
    labels = {name: (match[1], match[2]) for name, match in matches.items() if match}
    require_cameras_fit(layout.name, folder, ((name, camera) for name, (_, camera) in labels.items()))
    return [Labelled(folder / name, identity, int(camera) - 1) for name, (identity, camera) in labels.items()]

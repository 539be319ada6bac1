"""The records that packages pass to each other; all of them are immutable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

Pid = int | str
UNKNOWN = -1
# The nouns of prompts: "A photo of a X X X X person."
PERSON, VEHICLE = "person", "vehicle"
# Times, in seconds since 1970, lie from the first of these to before the second: the years 1 to 9999, as in datetimes.
FIRST_TIME, END_TIME = -62_135_596_800, 253_402_300_800
CAMID_NOTE = "cameras count from 0: c1 in a file name is camid 0"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of one identity.

    Args:
        path: the image file.
        pid: the identity as its dataset numbers or names it.
        camid: the camera as its dataset numbers it, counted from 0, possibly with gaps; UNKNOWN (-1) if it is not
            known. Users see this number, with CAMID_NOTE where it helps.
        viewid: the viewpoint, numbered in the same way.
    """

    path: Path
    pid: Pid
    camid: int = UNKNOWN
    viewid: int = UNKNOWN


@dataclass(frozen=True)
class SideRows:
    """The row of the side information (learned vectors) that belongs to each camera and viewpoint.

    Datasets number cameras as they like, for example by serial number; rows are counted from 0 without gaps.

    >>> rows = SideRows.of([Sample(Path("a.jpg"), pid=1, camid=20), Sample(Path("b.jpg"), pid=1, camid=7)])
    >>> rows.camera(7), rows.camera(20), rows.camera(8)  # camera 8 has no row
    (0, 1, -1)

    Args:
        cameras: camids in the order of their rows.
        views: viewids in the order of their rows.
    """

    cameras: tuple[int, ...] = ()
    views: tuple[int, ...] = ()

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> SideRows:
        """One row for each known camera and each known viewpoint of the samples, in sorted order."""
        numbers = {(sample.camid, sample.viewid) for sample in samples}
        cameras, views = ({pair[which] for pair in numbers} - {UNKNOWN} for which in (0, 1))
        return cls(tuple(sorted(cameras)), tuple(sorted(views)))

    @classmethod
    def counted(cls, num_cameras: int, num_views: int) -> SideRows:
        """Rows for cameras 0 to `num_cameras` - 1 and viewpoints likewise: camera k has row k."""
        return cls(tuple(range(num_cameras)), tuple(range(num_views)))

    @property
    def num_cameras(self) -> int:
        """Number of rows for cameras, at least 1."""
        return max(1, len(self.cameras))

    @property
    def num_views(self) -> int:
        """Number of rows for viewpoints, at least 1."""
        return max(1, len(self.views))

    def camera(self, camid: int) -> int:
        """The row of a camera; UNKNOWN (-1) if it has none."""
        return self._camera_rows.get(camid, UNKNOWN)

    def view(self, viewid: int) -> int:
        """The row of a viewpoint; UNKNOWN (-1) if it has none."""
        return self._view_rows.get(viewid, UNKNOWN)

    @cached_property
    def _camera_rows(self) -> dict[int, int]:
        return {camid: row for row, camid in enumerate(self.cameras)}

    @cached_property
    def _view_rows(self) -> dict[int, int]:
        return {viewid: row for row, viewid in enumerate(self.views)}


@dataclass(frozen=True)
class Origin:
    """Which dataset samples come from, so that a model's own dataset is recognised at test.

    Args:
        name: a published dataset's name; for a user's own data `name:path`.
        listings: for a user's own data the fingerprint of each split that has images, see `data.fingerprint`. Empty for
            published datasets, and for checkpoints of versions that recorded none.
    """

    name: str = ""
    listings: Mapping[str, str] = field(default_factory=dict)

    def is_same(self, trained: Origin) -> bool:
        """Whether this is the dataset that a model was trained on, even if it was moved to another folder.

        Fingerprints of the training split are compared, so test images may have been added; without a training split,
        an equal query or gallery is enough. Datasets without fingerprints are compared by name.
        """
        if not (self.listings and trained.listings):
            return self.name == trained.name
        deciding = ("train",) if "train" in self.listings else ("query", "gallery")
        return any(self.listings[split] == trained.listings.get(split) for split in deciding if split in self.listings)


@dataclass(frozen=True)
class Splits:
    """A dataset as its reader returns it: the samples of each split, and how they are tested.

    Args:
        name: the reader's name.
        train, query, gallery: samples in a reproducible order. Under the protocol `vehicleid-10`, query holds all test
            images, from which the protocol draws its galleries.
        protocol: `cross-camera`, `vehicleid-10` or `leave-self-out`.
        noun: the prompt's noun, `person` or `vehicle`.
        notes: what the user should know, such as files left out and counts that differ from the published ones.
        origin: which dataset this is.
        parts: parts of query by name that are tested one by one (VehicleID's sizes); empty: query is tested as a whole.
        side_rows: rows of the side information to train, where they are not those that the images of `train` need, as
            in a trial on few identities; None: those of `train`.
        pictures: a number for each test image's path; equal numbers are files with the same picture. Empty: all files
            hold different pictures.
    """

    name: str
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    protocol: str = "cross-camera"
    noun: str = PERSON
    notes: tuple[str, ...] = ()
    origin: Origin = Origin()
    parts: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    side_rows: SideRows | None = None
    pictures: Mapping[Path, int] = field(default_factory=dict)

    @property
    def testable(self) -> bool:
        """Whether there are queries, and a gallery unless the protocol draws one."""
        return bool(self.query) and (bool(self.gallery) or self.protocol == "vehicleid-10")


class Batch(NamedTuple):
    """The images of one training step or of one block at test.

    It is a tuple, so that Lightning Fabric can move its tensors.

    Args:
        images: (B, 3, H, W) float, normalised.
        labels: (B,) int64, training labels from 0 to N - 1; -1 at test.
        camids, viewids: (B,) int64, rows of the side information (see SideRows); -1 if not known.
        augmented1, augmented2: (B, 3, H, W) float, augmented copies for self-supervision; None without it.
    """

    images: torch.Tensor
    labels: torch.Tensor
    camids: torch.Tensor
    viewids: torch.Tensor
    augmented1: torch.Tensor | None = None
    augmented2: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        images, labels, camids, viewids = (value.to(device, non_blocking=True) for value in self[:4])
        augmented1, augmented2 = (value if value is None else value.to(device, non_blocking=True) for value in self[4:])
        return Batch(images, labels, camids, viewids, augmented1, augmented2)


class StepResult(NamedTuple):
    """The result of a training step's forward pass.

    Args:
        loss: scalar with gradient, the weighted sum of all losses.
        terms: each loss by its name, without its weight and without gradient, for the log.
        num_images: number of images in the batch, for images per second.
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]
    num_images: int

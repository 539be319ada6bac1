"""Records that travel between the rooms; all frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

Pid = int | str
UNKNOWN = -1
# What prompts call the images of a dataset.
PERSON, VEHICLE = "person", "vehicle"
CAMID_NOTE = "cameras count from 0: c1 in a file name is camid 0"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of one identity.

    Args:
        path: the image file.
        pid: raw identity, as its dataset numbers or names it.
        camid: zero-based camera, as its dataset numbers it, with gaps or without; UNKNOWN (-1) where nobody says. Users
            see it as it is, with CAMID_NOTE where it helps.
        viewid: zero-based viewpoint, likewise.
    """

    path: Path
    pid: Pid
    camid: int = UNKNOWN
    viewid: int = UNKNOWN


@dataclass(frozen=True)
class SideRows:
    """Which row of the side information belongs to which camera and viewpoint.

    Datasets number cameras as they like (by serial number, by date); rows are counted from 0 without gaps.

    Args:
        cameras, views: the numbers that the dataset gives, in the order of their rows.
    """

    cameras: tuple[int, ...] = ()
    views: tuple[int, ...] = ()

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> SideRows:
        """A row for each camera and each viewpoint of some samples, in sorted order."""
        numbers = {(sample.camid, sample.viewid) for sample in samples}
        cameras, views = ({pair[which] for pair in numbers} - {UNKNOWN} for which in (0, 1))
        return cls(tuple(sorted(cameras)), tuple(sorted(views)))

    @classmethod
    def counted(cls, num_cameras: int, num_views: int) -> SideRows:
        """The rows of a model that nobody says more of: cameras and viewpoints are their own rows."""
        return cls(tuple(range(num_cameras)), tuple(range(num_views)))

    @property
    def num_cameras(self) -> int:
        """Rows for cameras, at least 1."""
        return max(1, len(self.cameras))

    @property
    def num_views(self) -> int:
        """Rows for viewpoints, at least 1."""
        return max(1, len(self.views))

    def camera(self, camid: int) -> int:
        """The row of a camera; UNKNOWN where it has none."""
        return self._camera_rows.get(camid, UNKNOWN)

    def view(self, viewid: int) -> int:
        """The row of a viewpoint; UNKNOWN where it has none."""
        return self._view_rows.get(viewid, UNKNOWN)

    @cached_property
    def _camera_rows(self) -> dict[int, int]:
        return {camid: row for row, camid in enumerate(self.cameras)}

    @cached_property
    def _view_rows(self) -> dict[int, int]:
        return {viewid: row for row, viewid in enumerate(self.views)}


@dataclass(frozen=True)
class Origin:
    """What tells a dataset from others.

    Args:
        name: of a published dataset its name; of a user's own data also its place.
        listings: of a user's own data the fingerprint of each split that has images, see `data.fingerprint`; empty for
            published datasets, and where a checkpoint of an earlier version has none.
    """

    name: str = ""
    listings: Mapping[str, str] = field(default_factory=dict)

    def is_same(self, trained: Origin) -> bool:
        """Whether this is the dataset that was trained on, wherever it lies now.

        The training split decides, so test images may be added; where it is not at hand, query or gallery does.
        """
        if not (self.listings and trained.listings):
            return self.name == trained.name
        deciding = ("train",) if "train" in self.listings else ("query", "gallery")
        return any(self.listings[split] == trained.listings.get(split) for split in deciding if split in self.listings)


@dataclass(frozen=True)
class Splits:
    """What a reader makes of a dataset.

    Args:
        name: the reader's name.
        train, query, gallery: samples in a reproducible order; under `vehicleid-10` query holds all test images, of
            which the protocol draws the gallery.
        protocol: `cross-camera`, `vehicleid-10` or `leave-self-out`.
        noun: the prompt's noun, `person` or `vehicle`.
        notes: what the user should know (files dropped, counts that differ from the published ones).
        origin: what tells this dataset from others.
        parts: named parts of query that are tested one by one (VehicleID's sizes); none: query is tested whole.
        side_rows: side information that training has even where no image of `train` needs it, as in a trial on few
            identities; None: that of `train`.
        pictures: the number of the picture in each test image's file, where files may hold the same one; empty: every
            path is a picture of its own.
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
        """Whether there are queries and a gallery, or the protocol draws them."""
        return bool(self.query) and (bool(self.gallery) or self.protocol == "vehicleid-10")


class Batch(NamedTuple):
    """Images of one step, or of one block at test; a tuple, so that Fabric can look inside.

    Args:
        images: (B, 3, H, W) float, normalised.
        labels: (B,) int64, contiguous training labels, or -1 at test.
        camids, viewids: (B,) int64, rows of the side information (see SideRows), -1 where unknown.
        augmented1, augmented2: (B, 3, H, W) float, the copies for self-supervision; None where there are none.
    """

    images: torch.Tensor
    labels: torch.Tensor
    camids: torch.Tensor
    viewids: torch.Tensor
    augmented1: torch.Tensor | None = None
    augmented2: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        images, labels, camids, viewids = (value.to(device, non_blocking=True) for value in self[:4])
        augmented1, augmented2 = (value if value is None else value.to(device, non_blocking=True) for value in self[4:])
        return Batch(images, labels, camids, viewids, augmented1, augmented2)


class StepResult(NamedTuple):
    """What a task makes of a batch.

    Args:
        loss: scalar with gradient, the weighted sum.
        terms: each loss by its name, unweighted, detached.
        num_images: images seen, for throughput.
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]
    num_images: int

"""Records that travel between the rooms; all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

Pid = int | str
UNKNOWN = -1
CAMID_NOTE = "cameras count from 0: c1 in a file name is camid 0"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of one identity.

    Args:
        path: the image file.
        pid: raw identity, as its dataset numbers or names it.
        camid: zero-based camera, UNKNOWN (-1) where nobody says; users see it as it is, with CAMID_NOTE where it helps.
        viewid: zero-based viewpoint, UNKNOWN (-1) where nobody says.
    """

    path: Path
    pid: Pid
    camid: int = UNKNOWN
    viewid: int = UNKNOWN


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
        origin: what tells this dataset from others: its name, and of a user's own data also its place.
        parts: named parts of query that are tested one by one (VehicleID's sizes); none: query is tested whole.
    """

    name: str
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    protocol: str = "cross-camera"
    noun: str = "person"
    notes: tuple[str, ...] = ()
    origin: str = ""
    parts: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)

    @property
    def testable(self) -> bool:
        """Whether there are queries and a gallery, or the protocol draws them."""
        return bool(self.query) and (bool(self.gallery) or self.protocol == "vehicleid-10")


class Batch(NamedTuple):
    """Images of one step, or of one block at test; a tuple, so that Fabric can look inside.

    Args:
        images: (B, 3, H, W) float, normalised.
        labels: (B,) int64, contiguous training labels, or -1 at test.
        camids, viewids: (B,) int64, -1 where unknown.
        view1, view2: (B, 3, H, W) float, the two self-supervision views; None where not asked for.
    """

    images: torch.Tensor
    labels: torch.Tensor
    camids: torch.Tensor
    viewids: torch.Tensor
    view1: torch.Tensor | None = None
    view2: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        images, labels, camids, viewids = (value.to(device, non_blocking=True) for value in self[:4])
        view1, view2 = (value if value is None else value.to(device, non_blocking=True) for value in self[4:])
        return Batch(images, labels, camids, viewids, view1, view2)


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

"""An identity over time: the passes by cameras, and where they lie between the first and the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from svllreid.gallery.searching import SearchOptions
from svllreid.web.service.records import ShownCrop


@dataclass(frozen=True)
class Stop:
    """Crops of one pass by a camera.

    Args:
        camera: what the camera is called.
        time: of the first of them, in seconds since 1970; None where it is unknown.
        crops: in the order of their times.
    """

    camera: str
    time: float | None
    crops: tuple[ShownCrop, ...]


def stops_of(crops: Sequence[ShownCrop], gap: float = SearchOptions.gap) -> list[Stop]:
    """The passes of one identity, in the order of their times, those without a time last.

    Args:
        crops: sorted by time and camera.
        gap: crops of one camera that follow each other within so many seconds are one pass; those without a time are,
            camera by camera.
    """
    passes: list[list[ShownCrop]] = []
    timed = [crop for crop in crops if crop.time is not None]
    untimed = sorted((crop for crop in crops if crop.time is None), key=lambda crop: camera_name(crop.camid))
    for crop in [*timed, *untimed]:
        if passes and _together(passes[-1][-1], crop, gap):
            passes[-1].append(crop)
        else:
            passes.append([crop])
    return [Stop(camera_name(part[0].camid), part[0].time, tuple(part)) for part in passes]


def _together(before: ShownCrop, crop: ShownCrop, gap: float) -> bool:
    """Whether a crop belongs to the pass of the one before."""
    if before.camid != crop.camid or (before.time is None) != (crop.time is None):
        return False
    return before.time is None or crop.time is None or crop.time - before.time <= gap


def lanes_of(crops: Sequence[ShownCrop]) -> list[tuple[str, list[float]]]:
    """A lane for each camera: its name, and where its crops lie, from 2 for the first time of all to 98 for the last.

    Crops without a time are left out; so are cameras that have no others.
    """
    times = [crop.time for crop in crops if crop.time is not None]
    if not times:
        return []
    first, length = min(times), max(times) - min(times)
    places: dict[int | None, set[float]] = {}
    for crop in crops:
        if crop.time is not None:
            place = round(2 + 96 * (crop.time - first) / length, 1) if length else 50.0
            places.setdefault(crop.camid, set()).add(place)
    cameras = sorted(places, key=lambda camera: (camera is None, camera or 0))
    return [(camera_name(camera), sorted(places[camera])) for camera in cameras]


def camera_name(camid: int | None) -> str:
    """What a camera is called.

    >>> camera_name(3), camera_name(None)
    ('Camera 3', 'Camera unknown')
    """
    return "Camera unknown" if camid is None else f"Camera {camid}"

"""VehicleID."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from svllreid.data.readers.layout import (
    IMAGE_SUFFIXES,
    Root,
    contents,
    each_once,
    first_three,
    list_folder,
    locate,
    read_list,
    require_folder,
)
from svllreid.data.readers.numbers import numbered
from svllreid.data.readers.record import Dataset, Published
from svllreid.errors import DatasetError
from svllreid.files import is_file
from svllreid.types import VEHICLE, Pid, Sample, Splits

FOLDER = "VehicleID_V1.0"
LISTS = "train_test_split"
TEST_SIZES = {"small": 800, "medium": 1600, "large": 2400}


def read_vehicleid(root: Root) -> Splits:
    """Reads VehicleID, every test list that is there.

    Layout: `VehicleID_V1.0/image/*.jpg` and `VehicleID_V1.0/train_test_split/{train_list,test_list_800}.txt` of lines
    `imagename vid`, the name without its extension (one with it, or with folders before it, is understood); test lists
    also of 1600 and 2400 identities.

    The protocol `vehicleid-10` draws one gallery image per identity ten times, the rest being queries. So that it can,
    `query` holds **all** images of the test lists, each once, `parts` those of small (800), medium (1600) and large
    (2400), and `gallery` is empty. An identity with one image can be in the gallery only, in every draw: it is a
    distractor and never a query; a note counts such identities.

    Args:
        root: the folder that holds `VehicleID_V1.0`, or that folder itself.
    Returns: splits of protocol vehicleid-10, all of camera 0, samples sorted by file name.
    Raises: DatasetError: missing folders or lists, bad lines, listed images that are absent, or an image to which two
        test lists give different identities.
    Source: Liu et al. 2016, "Deep Relative Distance Learning: Tell the Difference Between Similar Vehicles".
    """
    dataset = locate(root, "VehicleID", FOLDER, ("image", LISTS))
    lists = require_folder(dataset, LISTS, "VehicleID")
    images = require_folder(dataset, "image", "VehicleID")
    # Lists leave the extension out; of 1.jpg and 1.png the first in the alphabet stands for 1.
    files = {Path(name).stem: name for name in reversed(list_folder(images).images)}
    train = _samples(_read(images, files, lists / "train_list.txt"))
    sources = {size: lists / f"test_list_{count}.txt" for size, count in TEST_SIZES.items()}
    absent = [source.name for source in sources.values() if not is_file(source)]
    if len(absent) == len(sources):
        raise DatasetError(f"VehicleID: {lists} has none of {', '.join(absent)}; {contents(lists)}. Unpack it again.")
    listed = {size: _read(images, files, source) for size, source in sources.items() if is_file(source)}
    tested = numbered(identity for lines in listed.values() for _, identity in lines)
    parts = {size: _samples(lines, tested) for size, lines in listed.items()}
    notes = [f"no {name}: that size is not tested" for name in absent]
    notes += [note for size, samples in parts.items() for note in _lonely(size, samples)]
    query = each_once((sample for samples in parts.values() for sample in samples), "VehicleID", "the test lists")
    return Splits("VehicleID", train, query, (), protocol="vehicleid-10", noun=VEHICLE, notes=tuple(notes), parts=parts)


def _lonely(size: str, samples: tuple[Sample, ...]) -> list[str]:
    """A note on the identities of a test list that have one image."""
    alone = sum(count == 1 for count in Counter(sample.pid for sample in samples).values())
    return [f"{size}: {alone} identities have one image: in the gallery of every draw, never a query"] if alone else []


def _samples(lines: Sequence[tuple[Path, str]], pids: Mapping[str, Pid] | None = None) -> tuple[Sample, ...]:
    """Each image once; `pids` of the identities' digits, where other lists have a say in them."""
    known = numbered(identity for _, identity in lines) if pids is None else pids
    return each_once((Sample(path, known[identity], 0) for path, identity in lines), "VehicleID", "the lists")


def _read(images: Path, files: dict[str, str], source: Path) -> list[tuple[Path, str]]:
    """Image and digits of the identity of every line."""
    lines = read_list(source, "VehicleID")
    found = [(line, _file(line.image, files)) for line in lines]
    if missing := [line.image for line, file in found if file is None]:
        raise DatasetError(
            f"VehicleID: {len(missing)} of the {len(lines)} images that {source} names are absent from {images}: "
            f"{first_three(missing)}. The likely cause is a partial unzip or copy: unpack the archive again."
        )
    return [(images / file, line.identity) for line, file in found if file is not None]


def _file(listed: str, files: dict[str, str]) -> str | None:
    """The file that a list names without its extension, or with it, or with folders before it."""
    name = re.split(r"[/\\]", listed)[-1]
    if name not in files and name.lower().endswith(IMAGE_SUFFIXES):
        name = Path(name).stem
    return files.get(name)


VEHICLEID = Dataset(
    "VehicleID",
    read_vehicleid,
    # Published as "about 113,000": all that rounds to it.
    Published(13_164, (112_500, 113_499), None, None, 1, test_ids=TEST_SIZES),
    noun=VEHICLE,
)

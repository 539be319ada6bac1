"""VehicleID, with its test lists of three sizes."""

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
from svllreid.data.readers.record import DatasetRecord, Published
from svllreid.errors import DatasetError
from svllreid.files import is_file
from svllreid.types import VEHICLE, Pid, Sample, Splits

FOLDER = "VehicleID_V1.0"
LISTS = "train_test_split"
TEST_SIZES = {"small": 800, "medium": 1600, "large": 2400}


def read_vehicleid(root: Root) -> Splits:
    """Reads VehicleID with all its test lists that are present.

    Layout: `VehicleID_V1.0/image/*.jpg` and `VehicleID_V1.0/train_test_split/{train_list,test_list_800}.txt` of lines
    `imagename vid`. Names have no extension; with an extension, or after folders, they are understood too. There are
    also test lists of 1600 and 2400 identities.

    The protocol `vehicleid-10` draws ten times one gallery image per identity; the other images are queries. Therefore
    `query` holds **all** images of the test lists, each once, `gallery` is empty, and `parts` has the images of the
    lists small (800), medium (1600) and large (2400). An identity with only one image is in the gallery of every draw
    and never a query; a note counts such identities.

    Args:
        root: the folder that holds `VehicleID_V1.0`, or that folder itself.
    Returns: splits of protocol vehicleid-10, all of camera 0, samples sorted by file name.
    Raises: DatasetError: folders, lists or listed images are missing, lines have another form, or two test lists give
        an image different identities.
    Source: Liu et al. 2016, "Deep Relative Distance Learning: Tell the Difference Between Similar Vehicles".
    """
    dataset = locate(root, "VehicleID", FOLDER, ("image", LISTS))
    lists = require_folder(dataset, LISTS, "VehicleID")
    images = require_folder(dataset, "image", "VehicleID")
    # Lists leave the extension out; of 1.jpg and 1.png, the name 1 means the first in the alphabet.
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
    """The samples of a list, each image once; `pids` if those of the digits were decided with other lists."""
    pids = numbered(identity for _, identity in lines) if pids is None else pids
    return each_once((Sample(path, pids[identity], 0) for path, identity in lines), "VehicleID", "the lists")


def _read(images: Path, files: dict[str, str], source: Path) -> list[tuple[Path, str]]:
    """The image of every line, and the digits of its identity."""
    lines = read_list(source, "VehicleID")
    matched = [(line, _file(line.image, files)) for line in lines]
    if missing := [line.image for line, file in matched if file is None]:
        raise DatasetError(
            f"VehicleID: {len(missing)} of the {len(lines)} images that {source} names are absent from {images}: "
            f"{first_three(missing)}. The likely cause is a partial unzip or copy: unpack the archive again."
        )
    return [(images / file, line.identity) for line, file in matched if file is not None]


def _file(listed: str, files: dict[str, str]) -> str | None:
    """The file that a list names, without or with its extension, or after folders."""
    name = re.split(r"[/\\]", listed)[-1]
    if name not in files and name.lower().endswith(IMAGE_SUFFIXES):
        name = Path(name).stem
    return files.get(name)


VEHICLEID = DatasetRecord(
    "VehicleID",
    read_vehicleid,
    # Published as "about 113,000": the range of all counts that round to it.
    Published(13_164, (112_500, 113_499), None, None, 1, test_ids=TEST_SIZES),
    noun=VEHICLE,
)

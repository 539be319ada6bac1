"""VehicleID."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from svllreid.data.readers.layout import (
    Root,
    by_path,
    first_three,
    list_images,
    locate,
    read_list,
    require_folder,
)
from svllreid.errors import DatasetError
from svllreid.types import Sample, Splits

FOLDER = "VehicleID_V1.0"
LISTS = "train_test_split"
TEST_SIZES = {"small": 800, "medium": 1600, "large": 2400}


def read_vehicleid(root: Root, *, test_size: str = "small") -> Splits:
    """Reads VehicleID.

    Layout: `VehicleID_V1.0/image/*.jpg` and `VehicleID_V1.0/train_test_split/{train_list,test_list_800}.txt` of lines
    `imagename vid`, the name without its extension.

    The protocol `vehicleid-10` draws one gallery image per identity ten times, the rest being queries. So that it can,
    `query` holds **all** images of the test list and `gallery` is empty. An identity with one image can be in the
    gallery only, in every draw: it is a distractor and never a query; a note counts such identities.

    Args:
        root: the folder that holds `VehicleID_V1.0`, or that folder itself.
        test_size: small (800 identities), medium (1600) or large (2400).
    Returns: splits of protocol vehicleid-10, all of camera 0, samples sorted by file name.
    Raises: DatasetError: another size, missing folders or lists, bad lines, or listed images that are absent.
    Source: Liu et al. 2016, "Deep Relative Distance Learning: Tell the Difference Between Similar Vehicles".
    """
    if test_size not in TEST_SIZES:
        raise DatasetError(f"VehicleID: test size {test_size!r} is unknown. Choose one of {', '.join(TEST_SIZES)}.")
    dataset = locate(root, "VehicleID", FOLDER, ("image", LISTS))
    lists = require_folder(dataset, LISTS, "VehicleID")
    images = require_folder(dataset, "image", "VehicleID")
    # Lists leave the extension out; of 1.jpg and 1.png the first in the alphabet stands for 1.
    files = {Path(name).stem: name for name in reversed(list_images(images))}
    train = _read(images, files, lists / "train_list.txt")
    test = _read(images, files, lists / f"test_list_{TEST_SIZES[test_size]}.txt")
    return Splits(
        "VehicleID", train=train, query=test, gallery=(), protocol="vehicleid-10", noun="vehicle", notes=_notes(test)
    )


def _notes(test: tuple[Sample, ...]) -> tuple[str, ...]:
    alone = [pid for pid, count in Counter(sample.pid for sample in test).items() if count == 1]
    if not alone:
        return ()
    return (f"{len(alone)} test identities have one image: in the gallery of every draw, never a query",)


def _read(images: Path, files: dict[str, str], source: Path) -> tuple[Sample, ...]:
    lines = read_list(source, "VehicleID")
    missing = [line.image for line in lines if line.image not in files]
    if missing:
        raise DatasetError(
            f"VehicleID: {len(missing)} of the {len(lines)} images that {source} names are absent from {images}: "
            f"{first_three(missing)}. The likely cause is a partial unzip or copy: unpack the archive again."
        )
    return by_path(Sample(images / files[line.image], line.pid, 0) for line in lines)

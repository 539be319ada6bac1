"""DukeMTMC-reID and Occluded-Duke, which share one layout."""

from __future__ import annotations

from svllreid.data.readers.layout import Root
from svllreid.data.readers.record import DatasetRecord, Published
from svllreid.data.readers.three_folders import Layout, read_three_folders
from svllreid.types import Splits

_DUKEMTMC = Layout("dukemtmc", folder="dukemtmcreid/DukeMTMC-reID", example="0005_c2_f0046985.jpg")
_OCC_DUKE = Layout("occ_duke", folder="dukemtmcreid/Occluded_Duke", example="0005_c2_f0046985.jpg")


def read_dukemtmc(root: Root) -> Splits:
    """Reads DukeMTMC-reID. Its authors have withdrawn it: users must find out whether they may use a copy.

    Layout: `dukemtmcreid/DukeMTMC-reID/{bounding_box_train,query,bounding_box_test}/0005_c2_f0046985.jpg`.

    Args:
        root: the folder that holds `dukemtmcreid` or `DukeMTMC-reID`, or the latter itself.
    Returns: cross-camera splits, cameras zero-based, samples sorted by file name.
    Raises: DatasetError: a folder is missing, a split has no images, or file names have another form.
    Source: Zheng et al. 2017, arXiv:1701.07717; Ristani et al. 2016, arXiv:1609.01775.
    """
    return read_three_folders(root, _DUKEMTMC)


def read_occ_duke(root: Root) -> Splits:
    """Reads Occluded-Duke, made from DukeMTMC-reID and bound by its licence terms.

    Layout: `dukemtmcreid/Occluded_Duke/{bounding_box_train,query,bounding_box_test}/0005_c2_f0046985.jpg`.

    Args:
        root: the folder that holds `dukemtmcreid` or `Occluded_Duke`, or the latter itself.
    Returns: cross-camera splits, cameras zero-based, samples sorted by file name.
    Raises: DatasetError: a folder is missing, a split has no images, or file names have another form.
    Source: Miao et al. 2019, "Pose-Guided Feature Alignment for Occluded Person Re-identification".
    """
    return read_three_folders(root, _OCC_DUKE)


DUKEMTMC = DatasetRecord(
    _DUKEMTMC.name,
    read_dukemtmc,
    Published(702, (16_522, 16_522), 2_228, 17_661, 8),
    sorted_when_published=False,
)
OCC_DUKE = DatasetRecord(
    _OCC_DUKE.name,
    read_occ_duke,
    Published(702, (15_618, 15_618), 2_210, 17_661, 8),
    sorted_when_published=False,
)

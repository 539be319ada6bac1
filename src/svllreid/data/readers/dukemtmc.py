"""DukeMTMC-reID and Occluded-Duke, which share one layout."""

from __future__ import annotations

from svllreid.data.readers.layout import Root
from svllreid.data.readers.three_folders import Layout, read_three_folders
from svllreid.types import Splits

DUKEMTMC = Layout("dukemtmc", folder="dukemtmcreid/DukeMTMC-reID", example="0005_c2_f0046985.jpg")
OCC_DUKE = Layout("occ_duke", folder="dukemtmcreid/Occluded_Duke", example="0005_c2_f0046985.jpg")


def read_dukemtmc(root: Root) -> Splits:
    """Reads DukeMTMC-reID, which its authors have withdrawn: whether you may use a copy is yours to settle.

    Layout: `dukemtmcreid/DukeMTMC-reID/{bounding_box_train,query,bounding_box_test}/0005_c2_f0046985.jpg`.

    Args:
        root: the folder that holds `dukemtmcreid` or `DukeMTMC-reID`, or the latter itself.
    Returns: cross-camera splits, cameras zero-based, samples sorted by file name.
    Raises: DatasetError: a missing folder, a split without images, or file names in another form.
    Source: Zheng et al. 2017, arXiv:1701.07717; Ristani et al. 2016, arXiv:1609.01775.
    """
    return read_three_folders(root, DUKEMTMC)


def read_occ_duke(root: Root) -> Splits:
    """Reads Occluded-Duke, made from DukeMTMC-reID and bound by its licence terms.

    Layout: `dukemtmcreid/Occluded_Duke/{bounding_box_train,query,bounding_box_test}/0005_c2_f0046985.jpg`.

    Args:
        root: the folder that holds `dukemtmcreid` or `Occluded_Duke`, or the latter itself.
    Returns: cross-camera splits, cameras zero-based, samples sorted by file name.
    Raises: DatasetError: a missing folder, a split without images, or file names in another form.
    Source: Miao et al. 2019, "Pose-Guided Feature Alignment for Occluded Person Re-identification".
    """
    return read_three_folders(root, OCC_DUKE)

"""CUHK03 under its new protocol, with boxes drawn by hand or by a detector."""

from __future__ import annotations

from svllreid.data.readers.layout import Root
from svllreid.data.readers.record import DatasetRecord, Published
from svllreid.data.readers.three_folders import Layout, read_three_folders
from svllreid.types import Splits

_LABELLED = Layout("cuhk03_labelled", folder="cuhk03-np/labeled", example="0003_c1_21.png")
_DETECTED = Layout("cuhk03_detected", folder="cuhk03-np/detected", example="0003_c1_21.png")


def read_cuhk03_labelled(root: Root) -> Splits:
    """Reads CUHK03 with boxes drawn by hand, under the new protocol: 767 people to train, 700 others to test.

    Layout: `cuhk03-np/labeled/{bounding_box_train,query,bounding_box_test}/0003_c1_21.png`, as the authors of that
    protocol distribute it. The older protocol, 20 random splits of `cuhk-03.mat`, is not read.

    Args:
        root: the folder that holds `cuhk03-np` or `labeled`, or the latter itself.
    Returns: cross-camera splits, cameras zero-based, samples sorted by file name.
    Raises: DatasetError: a folder is missing, a split has no images, or file names have another form.
    Source: Li et al. 2014, "DeepReID"; protocol: Zhong et al. 2017, arXiv:1701.08398.
    """
    return read_three_folders(root, _LABELLED)


def read_cuhk03_detected(root: Root) -> Splits:
    """Reads CUHK03 with boxes of a detector, under the new protocol; see `read_cuhk03_labelled`.

    Layout: `cuhk03-np/detected/{bounding_box_train,query,bounding_box_test}/0003_c1_21.png`.

    Args:
        root: the folder that holds `cuhk03-np` or `detected`, or the latter itself.
    Returns: cross-camera splits, cameras zero-based, samples sorted by file name.
    Raises: DatasetError: a folder is missing, a split has no images, or file names have another form.
    Source: Li et al. 2014, "DeepReID"; protocol: Zhong et al. 2017, arXiv:1701.08398.
    """
    return read_three_folders(root, _DETECTED)


CUHK03_LABELLED = DatasetRecord(_LABELLED.name, read_cuhk03_labelled, Published(767, (7_368, 7_368), 1_400, 5_328, 2))
CUHK03_DETECTED = DatasetRecord(_DETECTED.name, read_cuhk03_detected, Published(767, (7_365, 7_365), 1_400, 5_332, 2))

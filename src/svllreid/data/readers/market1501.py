"""Market-1501."""

from __future__ import annotations

from svllreid.data.readers.layout import Root
from svllreid.data.readers.record import DatasetRecord, Published
from svllreid.data.readers.three_folders import Layout, read_three_folders
from svllreid.types import Splits

LAYOUT = Layout("market1501", folder="Market-1501-v15.09.15", example="0002_c1s1_000451_03.jpg")


def read_market1501(root: Root) -> Splits:
    """Reads Market-1501, or any dataset in its layout.

    Layout: `Market-1501-v15.09.15/{bounding_box_train,query,bounding_box_test}/0002_c1s1_000451_03.jpg`. Images of
    identity -1 (junk) are left out and counted in the notes; those of identity 0 (distractors) stay in the gallery.

    Args:
        root: the folder that holds `Market-1501-v15.09.15`, or that folder itself.
    Returns: cross-camera splits, cameras zero-based, samples sorted by file name.
    Raises: DatasetError: a folder is missing, a split has no images, or file names have another form.
    Source: Zheng et al. 2015, "Scalable Person Re-identification: A Benchmark".
    """
    return read_three_folders(root, LAYOUT)


def _cause(splits: Splits, what: str, fewer: bool) -> str | None:
    if what == "gallery images" and fewer and all(sample.pid not in (0, "0") for sample in splits.gallery):
        return "the distractors (identity 0) were removed from bounding_box_test"
    return None


MARKET1501 = DatasetRecord(
    LAYOUT.name, read_market1501, Published(751, (12_936, 12_936), 3_368, 15_913, 6), distractor=0, cause=_cause
)

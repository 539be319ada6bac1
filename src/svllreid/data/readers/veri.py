"""VeRi-776 with its viewpoint labels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from svllreid.data.readers.layout import Root, existing_folder, first_three, read_text
from svllreid.data.readers.record import DatasetRecord, Published
from svllreid.data.readers.three_folders import Layout, find, read_three_folders
from svllreid.errors import DatasetError
from svllreid.files import is_file
from svllreid.types import UNKNOWN, VEHICLE, Sample, Splits

LAYOUT = Layout(
    "veri",
    folder="VeRi",
    train="image_train",
    query="image_query",
    gallery="image_test",
    example="0001_c001_00016450_0.jpg",
    noun=VEHICLE,
)
LABEL_FILES = ("keypoint_train.txt", "keypoint_test.txt")
NUM_VIEWS = 8


def read_veri(root: Root, *, views_dir: Root | None = None, drop_unlabelled_test: bool = False) -> Splits:
    """Reads VeRi-776.

    Layout: `VeRi/{image_train,image_query,image_test}/0001_c001_00016450_0.jpg` and, beside them, the label files
    `keypoint_train.txt` and `keypoint_test.txt`. In each of their lines, the first field is an image's path, of which
    the base name is used, and the last field is its viewpoint, 0 to 7; the last line on an image counts. Training
    images without a label are left out; test images without one have the view UNKNOWN; notes count both. If both label
    files are missing, every view is UNKNOWN and no image is left out.

    Args:
        root: the folder that holds `VeRi`, or that folder itself.
        views_dir: the folder of the label files; None: the dataset's folder.
        drop_unlabelled_test: leave test images without a label out, as the published test does.
    Returns: cross-camera splits, cameras and views zero-based, samples sorted by file name.
    Raises: DatasetError: folders are missing; file names or label lines have another form; one label file is missing,
        or both are although an argument needs them; or no label fits the images of a split.
    Source: Liu et al. 2016, "A Deep Learning-based Approach to Progressive Vehicle Re-identification for Urban
        Surveillance"; labels: Wang et al. 2017, "Orientation Invariant Feature Embedding and Spatial Temporal
        Regularization for Vehicle Re-identification".
    """
    splits = read_three_folders(root, LAYOUT)
    folder = find(root, LAYOUT) if views_dir is None else existing_folder(views_dir, "veri", " and ".join(LABEL_FILES))
    if not any(is_file(folder / file) for file in LABEL_FILES):
        if views_dir is not None or drop_unlabelled_test:
            raise DatasetError(
                f"veri: no viewpoint labels: {folder} holds neither {' nor '.join(LABEL_FILES)}. "
                "Name their folder; without them, name none and keep the unlabelled test images",
                settings=("viewpoint labels", "unlabelled test images"),
            )
        return replace(splits, notes=(*splits.notes, f"no viewpoint labels in {folder}: every view unknown"))
    train_views, test_views = (_read_views(folder / file) for file in LABEL_FILES)
    train, train_notes = _label("training", splits.train, train_views, drop=True)
    query, query_notes = _label("query", splits.query, test_views, drop=drop_unlabelled_test)
    gallery, gallery_notes = _label("gallery", splits.gallery, test_views, drop=drop_unlabelled_test)
    notes = (*splits.notes, *train_notes, *query_notes, *gallery_notes)
    return replace(splits, train=train, query=query, gallery=gallery, notes=notes)


def _read_views(path: Path) -> dict[str, int]:
    """The viewpoint of each image, by the base name of its file."""
    views, bad = {}, []
    for number, text in enumerate(read_text(path, "veri").splitlines(), start=1):
        fields = text.split()
        if not fields:
            continue
        if len(fields) > 1 and fields[-1] in map(str, range(NUM_VIEWS)):
            views[re.split(r"[/\\]", fields[0])[-1]] = int(fields[-1])
        else:
            bad.append(f"line {number} {text.strip()[-60:]!r}")
    if bad:
        raise DatasetError(
            f"veri: {len(bad)} lines of {path} are not an image path first and a view from 0 to {NUM_VIEWS - 1} last: "
            f"{first_three(bad)}. Fix them, or fetch the file again."
        )
    return views


def _label(
    split: str, samples: Iterable[Sample], views: dict[str, int], *, drop: bool
) -> tuple[tuple[Sample, ...], list[str]]:
    """The samples with their viewpoints, and a note that counts those without one."""
    labelled = [replace(sample, viewid=views.get(sample.path.name, UNKNOWN)) for sample in samples]
    unknown = sum(sample.viewid == UNKNOWN for sample in labelled)
    if unknown == len(labelled):
        raise DatasetError(
            f"veri: none of the {len(labelled)} {split} images has a viewpoint label. The label files name other "
            "images; name the folder of VeRi's own viewpoint labels",
            settings=("viewpoint labels",),
        )
    if not unknown:
        return tuple(labelled), []
    done = "dropped" if drop else "kept, view unknown"
    kept = tuple(sample for sample in labelled if not drop or sample.viewid != UNKNOWN)
    return kept, [f"{unknown} {split} images without viewpoint label {done}"]


def _cause(splits: Splits, what: str, fewer: bool) -> str | None:
    if what in ("query images", "gallery images") and fewer:
        return "a partial unzip or copy, or test images without viewpoint label left out (see the notes)"
    return None


VERI = DatasetRecord(
    LAYOUT.name,
    read_veri,
    Published(576, (37_746, 37_781), 1_678, 11_579, 20),
    noun=LAYOUT.noun,
    options=("views_dir", "drop_unlabelled_test"),
    cause=_cause,
)

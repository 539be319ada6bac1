"""The picture of a cluster."""

from pathlib import Path

import numpy as np
from PIL import Image

from svllreid.errors import ImageError
from svllreid.viz.cluster_sheet import draw_cluster


def open_image(path):
    if path.name == "broken":
        raise ImageError("no")
    return Image.new("RGB", (40, 80), path.name)


def test_images_stand_in_rows_and_broken_ones_are_grey(tmp_path):
    images = [(Path(name), "c0 0.10") for name in ("red", "lime", "broken", "blue")]
    assert draw_cluster(tmp_path / "new" / "c.png", images, "c00000", open_image, (64, 32), columns=3) == 1
    with Image.open(tmp_path / "new" / "c.png") as file:
        sheet = np.asarray(file.convert("RGB")).astype(int)
    tops, lefts = [], []
    for colour in ((255, 0, 0), (0, 255, 0), (187, 187, 187), (0, 0, 255)):
        rows, columns = np.nonzero((sheet == colour).all(axis=2))
        assert len(rows) >= 64 * 32
        tops.append(int(np.median(rows)))
        lefts.append(int(np.median(columns)))
    red, lime, _, blue = zip(tops, lefts, strict=True)  # grey is in the letters too
    assert red[0] == lime[0] < blue[0] and red[1] == blue[1] < lime[1], "the fourth begins the second row"

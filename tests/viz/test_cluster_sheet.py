"""The picture of a cluster."""

from pathlib import Path

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
    with Image.open(tmp_path / "new" / "c.png") as sheet:
        colours = {colour: count for count, colour in sheet.convert("RGB").getcolors(1 << 20)}
        places = {colour: sheet.convert("RGB").tobytes().find(bytes(colour)) for colour in colours}
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (187, 187, 187)):
        assert 64 * 32 <= colours[colour] < 64 * 32 + 50, "and a few pixels of text"
    assert places[255, 0, 0] < places[0, 255, 0] < places[0, 0, 255], "the fourth begins the second row"

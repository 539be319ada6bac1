"""The page under the pictures: where frames and texts stand, and what is written."""

import pytest
from PIL import Image, ImageColor

from svllreid.errors import OutputError
from svllreid.viz.canvas import FRAME, GAP, INK, PAPER, TOP, Canvas

WHITE = ImageColor.getrgb(PAPER)


def colours(image, left, top, width, height):
    return {colour for _, colour in image.crop((left, top, left + width, top + height)).getcolors(10**6)}


def test_a_picture_stands_inside_its_frame():
    canvas = Canvas(200, 300, "title")
    canvas.put(Image.new("RGB", (20, 40), "cyan"), 50, 100, frame="red")
    cyan, red = ImageColor.getrgb("cyan"), ImageColor.getrgb("red")
    assert canvas.image.size == (300, 200)
    assert colours(canvas.image, 50 + FRAME, 100 + FRAME, 20, 40) == {cyan}
    width, height = 20 + 2 * FRAME, 40 + 2 * FRAME
    framed = canvas.image.crop((50, 100, 50 + width, 100 + height))
    assert {colour: count for count, colour in framed.getcolors()} == {cyan: 800, red: width * height - 800}
    for left, top in ((50 - 1, 100), (50 + width, 100), (50, 100 - 1), (50, 100 + height)):
        assert canvas.image.getpixel((left, top)) == WHITE


def test_texts_stand_where_they_are_put():
    canvas = Canvas(200, 300, "")
    assert colours(canvas.image, 0, 0, 300, 200) == {WHITE}
    canvas.write("identity 5", 60, 120)
    dark = canvas.image.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert dark[0] >= 60 and dark[1] >= 120 and dark[3] <= 120 + 18


def test_the_title_stands_on_top_and_widens_the_page():
    canvas = Canvas(100, 50, "a title that is longer than the page is wide")
    assert canvas.image.width > 50
    assert ImageColor.getrgb(INK) in colours(canvas.image, 0, 0, canvas.image.width, TOP)
    assert colours(canvas.image, canvas.image.width - GAP, 0, GAP, 100) == {WHITE}, "the title ends before the margin"
    assert colours(canvas.image, 0, TOP, canvas.image.width, 100 - TOP) == {WHITE}


def test_what_is_saved_is_the_page_as_png(tmp_path):
    canvas = Canvas(60, 80, "title")
    canvas.save(tmp_path / "new" / "page")
    with Image.open(tmp_path / "new" / "page") as saved:
        assert saved.format == "PNG" and saved.tobytes() == canvas.image.tobytes()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page"]


def test_a_page_that_cannot_be_saved_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"page\.png could not be written"):
        Canvas(60, 80, "title").save(tmp_path / "file" / "page.png")

"""The rank list: the query first, matches and other images in frames of their colours."""

import pytest
from PIL import Image, ImageColor

from svllreid.data.images import open_image
from svllreid.types import Sample
from svllreid.viz.ranklist import FRAME, GAP, QUERY, RIGHT, WRONG, draw_ranklist


@pytest.fixture
def samples(tmp_path):
    def make(name, pid, colour):
        Image.new("RGB", (20, 40), colour).save(tmp_path / name)
        return Sample(tmp_path / name, pid, 0)

    return make


def test_frames_and_order(samples, tmp_path):
    query = samples("q.png", 1, "black")
    gallery = [samples("a.png", 2, "yellow"), samples("b.png", 1, "cyan")]
    path = tmp_path / "out" / "ranklist.png"
    draw_ranklist(path, [query], gallery, [[1, 0, -1]], ["the worst"], "title", open_image, size=(40, 20))
    with Image.open(path) as page:
        pixels = page.convert("RGB")
    top = 2 * 18 + GAP + 18
    cell = 20 + 2 * FRAME + GAP
    found = []
    for column in range(4):
        left = GAP + column * cell + (GAP if column else 0)
        if left + FRAME + 10 < pixels.width:
            found.append((pixels.getpixel((left + 1, top + 1)), pixels.getpixel((left + FRAME + 10, top + FRAME + 20))))
    frames = [ImageColor.getrgb(colour) for colour in (QUERY, RIGHT, WRONG)]
    inside = [ImageColor.getrgb(colour) for colour in ("black", "cyan", "yellow")]
    assert found[:3] == list(zip(frames, inside, strict=True))
    assert found[3:] == [((255, 255, 255),) * 2]


def test_the_page_is_as_wide_as_its_captions(samples, tmp_path):
    query, path = samples("q.png", 1, "black"), tmp_path / "ranklist.png"
    sizes = []
    for caption in ("query.jpg", "query.jpg" * 20, "two\nlines"):
        draw_ranklist(path, [query], [query], [[0]], [caption], "title", open_image)
        with Image.open(path) as page:
            sizes.append(page.width)
    assert sizes[1] > 4 * sizes[0] and sizes[2] == sizes[0]

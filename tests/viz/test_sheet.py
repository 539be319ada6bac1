"""The contact sheet: which identities and cameras are chosen, and where each image is drawn."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from svllreid.errors import ImageError, OutputError
from svllreid.types import UNKNOWN, Sample, Splits
from svllreid.viz.canvas import FRAME, GAP, LINE, TOP, Canvas
from svllreid.viz.sheet import choose, draw_sheet


def people(count, cameras=3, shots=4, first=0):
    return tuple(
        Sample(Path(f"{pid:03d}_{camid}_{shot}.jpg"), pid, camid)
        for pid in range(first, first + count)
        for shot in range(shots)
        for camid in range(cameras)
    )


def test_identities_are_drawn_by_seed():
    splits = Splits("folder", people(40), (), ())
    rows = choose(splits, seed=1)
    pids = [row[0].pid for row in rows]
    assert len(pids) == 12 and pids == sorted(set(pids))
    assert rows == choose(splits, seed=1)
    assert pids != [row[0].pid for row in choose(splits, seed=2)]
    assert all(sample.pid == row[0].pid for row in rows for sample in row)


def test_images_are_spread_over_cameras():
    many = tuple(Sample(Path(f"{shot}.jpg"), 1, 0) for shot in range(50))
    few = tuple(Sample(Path(f"c{camid}.jpg"), 1, camid) for camid in (1, 2, 2, 2))
    (row,) = choose(Splits("folder", many + few, (), ()))
    assert len(row) == 8
    assert Counter(sample.camid for sample in row) == {0: 4, 1: 1, 2: 3}
    assert [sample.camid for sample in row] == sorted(sample.camid for sample in row)


def test_fewer_cells_than_cameras_show_different_cameras():
    (row,) = choose(Splits("folder", people(1, cameras=20), (), ()))
    assert len({sample.camid for sample in row}) == 8


def test_without_training_images_the_test_set_is_drawn_each_image_once():
    test = people(2, cameras=1, shots=3)
    rows = choose(Splits("folder", (), test, test))
    assert [len(row) for row in rows] == [3, 3]
    rows = choose(Splits("folder", people(1, first=9), test, test))
    assert [row[0].pid for row in rows] == [9]


def test_places_and_proportions(tmp_path):
    path = tmp_path / "out" / "sheet.png"
    images = {"tall": Image.new("RGB", (20, 40), "cyan"), "flat": Image.new("RGB", (80, 40), "yellow")}
    rows = [[Sample(Path("tall"), 5, 0), Sample(Path("flat"), 5, 1)], [Sample(Path("tall"), "ann", UNKNOWN)]]
    draw_sheet(path, rows, "title", lambda path: images[path.name], size=(40, 40))
    with Image.open(path) as page:
        pixels = page.convert("RGB")
    cell, row = 40 + 2 * FRAME + GAP, 2 * LINE + 40 + 2 * FRAME + 2 * GAP
    assert pixels.size == (2 * GAP + 2 * cell, TOP + 2 * row)
    left, top = GAP + FRAME, TOP + LINE + FRAME

    def colours(x, y, width, height):
        return pixels.crop((x, y, x + width, y + height)).getcolors()

    cyan, yellow, white = (ImageColor.getrgb(name) for name in ("cyan", "yellow", "white"))
    assert colours(left, top, 20, 40) == [(800, cyan)]
    assert colours(left + 20, top, 20, 40) == [(800, white)], "nothing stretched"
    assert colours(left + cell, top, 40, 20) == [(800, white)]
    assert colours(left + cell, top + 20, 40, 20) == [(800, yellow)], "images stand on their captions"
    assert colours(left, top + row, 20, 40) == [(800, cyan)]


def test_captions_say_identity_and_camid_as_files_do(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(Canvas, "write", lambda self, text, left, top: written.append(text))
    rows = [[Sample(Path("a"), 5, 0), Sample(Path("b"), 5, 11)], [Sample(Path("c"), "ann", UNKNOWN)]]
    draw_sheet(tmp_path / "sheet.png", rows, "title", lambda path: Image.new("RGB", (4, 4)))
    assert written == ["identity 5", "camid 0", "camid 11", "identity ann", "camid unknown"]


def test_a_long_title_widens_the_page(tmp_path):
    draw_sheet(tmp_path / "sheet.png", [[Sample(Path("a"), 5, 0)]], "word " * 40, lambda path: Image.new("RGB", (4, 4)))
    with Image.open(tmp_path / "sheet.png") as page:
        assert page.width > 600


def test_nothing_is_written_where_an_image_or_the_folder_fails(tmp_path):
    def broken(path):
        raise ImageError(f"{path} cannot be read")

    rows = [[Sample(Path("a.jpg"), 5, 0)]]
    with pytest.raises(ImageError, match=r"a\.jpg"):
        draw_sheet(tmp_path / "sheet.png", rows, "title", broken)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"sheet\.png could not be written"):
        draw_sheet(tmp_path / "file" / "sheet.png", rows, "title", lambda path: Image.new("RGB", (4, 4)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""The page: what stands in it, that it needs nothing beside it, and where curves are drawn."""

import base64
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svllreid.errors import ImageError
from svllreid.types import Sample
from svllreid.viz.page import Chart, Matrix, Number, Page, RankedQuery, Table, write_page


class Tags(HTMLParser):
    """Start tags with their attributes, and texts, of a page whose tags all end where they should."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def written(tmp_path):
    """Writes a page and reads it again."""

    def write(open_image=lambda path: Image.new("RGB", (20, 40), "cyan"), **parts):
        page = Page("a title", "a subtitle", **{"numbers": [], **parts})
        write_page(tmp_path / "new" / "report.html", page, open_image)
        return Tags((tmp_path / "new" / "report.html").read_text(encoding="utf-8"))

    return write


CHART = Chart("CMC", "rank", "share", {"all": np.array([[0.0, 0.0], [0.5, 0.25], [1.0, 1.0]])})


def test_a_page_without_parts_has_title_and_numbers(written):
    page = written(numbers=[Number("mAP", "24.2 %", "± 1.1")], notes=["one note"])
    assert {"a title", "a subtitle", "mAP", "24.2 %", "± 1.1", "one note"} <= set(page.texts)
    assert page.of("table") == page.of("svg") == page.of("figure") == []


def test_texts_are_escaped_and_nothing_is_fetched(written):
    script = "<script>alert('x')</script>"
    sample = Sample(Path(f"{script}.jpg"), script, 0)
    page = written(
        numbers=[Number(script, script)],
        charts=[Chart(script, script, script, {script: np.zeros((1, 2))})],
        tables=[Table(script, [script], [[script]], script)],
        matrices=[Matrix(script, [script], [script], np.ones((1, 1)))],
        ranked=[RankedQuery(script, sample, [(sample, True)])],
    )
    assert page.of("script") == [] and page.texts.count(script) >= 9
    addresses = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert addresses and all(address.startswith("data:image/jpeg;base64,") for address in addresses)


def test_places_in_a_chart():
    assert (CHART.across(0), CHART.across(0.5), CHART.across(1)) == (58, 232, 406)
    assert (CHART.down(0), CHART.down(0.5), CHART.down(1)) == (246, 136, 26)
    log = Chart("ROC", "x", "y", {}, x_ticks=(1e-4, 1e-2, 1), log_x=True)
    assert (log.across(1e-4), log.across(1e-2), log.across(1)) == (58, 232, 406)
    assert log.x_marks == [(58, "0.0001"), (232, "0.01"), (406, "1")]


def test_curves_are_drawn_through_their_points(written):
    page = written(charts=[CHART])
    [line] = page.of("polyline")
    assert line["points"] == "58.0,246.0 232.0,191.0 406.0,26.0"
    assert {"CMC", "rank", "share", "all", "0.2", "1"} <= set(page.texts)


def test_curves_are_thinned_and_cut_at_the_left_end():
    x = np.linspace(0, 1, 5000)
    chart = Chart("", "", "", {"a": np.stack([x, x**2], 1), "b": np.array([[0.0, 0.0], [1.0, 1.0]])}, x_ticks=(0.5, 1))
    [(_, colour_a, points_a), (_, colour_b, points_b)] = chart.lines
    places = [tuple(map(float, point.split(","))) for point in points_a.split()]
    assert len(places) == 400 and colour_a != colour_b and points_b == "406.0,26.0"
    assert places[0][0] == pytest.approx(58, abs=0.2) and places[-1] == (406, 26)


def test_tables_and_matrices_show_their_cells(written):
    values = np.array([[0.5, math.nan], [1.0, 0.0]])
    page = written(
        tables=[Table("thresholds", ["rate", "threshold"], [["1 %", "0.75"]], "a note")],
        matrices=[Matrix("cameras", ["q0", "q1"], ["g0", "g1"], values)],
    )
    at = page.texts.index("thresholds")
    assert page.texts[at : at + 6] == ["thresholds", "rate", "threshold", "1 %", "0.75", "a note"]
    at = page.texts.index("cameras")
    assert page.texts[at : at + 8] == ["cameras", "g0", "g1", "q0", "50.0", "q1", "100.0", "0.0"]
    shades = [cell.get("style") for cell in page.of("td")][2:]
    assert [shade and re.search(r"(\d+)%", shade)[1] for shade in shades] == ["50", None, "100", "0"]


def test_ranked_images_are_small_copies_in_frames(written):
    query, right, wrong = (Sample(Path(f"/data/{name}.jpg"), name, 0) for name in ("query", "right", "wrong"))
    colours = {"query": "black", "right": "cyan", "wrong": "yellow"}
    page = written(
        lambda path: Image.new("RGB", (200, 400), colours[path.stem]),
        ranked=[RankedQuery("the worst", query, [(wrong, False), (right, True)])],
    )
    assert [figure["class"] for figure in page.of("figure")] == ["query", "wrong", "right"]
    assert [figure["title"] for figure in page.of("figure")] == [str(s.path) for s in (query, wrong, right)]
    drawn = []
    for image in page.of("img"):
        with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as picture:
            assert picture.size == (64, 128)
            drawn.append([channel > 128 for channel in picture.getpixel((32, 64))])
    assert drawn == [[False] * 3, [True, True, False], [False, True, True]]


def test_an_image_that_is_gone_leaves_its_name(written):
    def gone(path):
        raise ImageError(f"{path} cannot be read")

    page = written(gone, ranked=[RankedQuery("the worst", Sample(Path("/data/q.jpg"), 7, 0), [])])
    assert page.of("img") == [] and "q.jpg" in page.texts and "7" in page.texts

"""An HTML page about a test, in one file that opens offline: numbers, curves, tables, matrices and ranked images."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from svllreid.errors import ImageError
from svllreid.files import write_text
from svllreid.types import Sample

_MOST_POINTS = 400  # of a curve; one with more is thinned
_WIDTH, _HEIGHT = 420, 290  # of a chart, in SVG units
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 26, 44  # margins for title, ticks and labels
_TENTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_COLOURS = ("#2f5fb3", "#d1343b", "#2a9d4a", "#8a5cc2")


@dataclass(frozen=True)
class Number:
    """A headline number: its name, its value as text, and a detail such as its confidence interval."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart with one or more curves; its y axis goes from 0 to 1.

    Args:
        title, x_label, y_label: texts.
        curves: the points (n, 2) of each curve by its name, in ascending order of x.
        x_ticks: ticks of the x axis in ascending order; the first and the last are its ends.
        log_x: whether the x axis is logarithmic; its ticks are then above 0.
    """

    title: str
    x_label: str
    y_label: str
    curves: dict[str, np.ndarray]
    x_ticks: Sequence[float] = _TENTHS
    log_x: bool = False

    def across(self, x: float) -> float:
        """The horizontal position of a value x in the SVG picture."""
        left, right = self.x_ticks[0], self.x_ticks[-1]
        if self.log_x:
            x, left, right = (math.log10(value) for value in (x, left, right))
        return round(_LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT), 1)

    def down(self, y: float) -> float:
        """The vertical position of a value y in the SVG picture."""
        return round(_HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM), 1)

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """Name, colour and SVG points of each curve; a curve with very many points is thinned."""
        drawn = []
        for (name, points), colour in zip(self.curves.items(), _COLOURS, strict=False):
            inside = points[points[:, 0] >= self.x_ticks[0]]
            chosen = np.unique(np.linspace(0, max(0, len(inside) - 1), min(len(inside), _MOST_POINTS)).astype(int))
            drawn.append(
                (name, colour, " ".join(f"{self.across(x)},{self.down(y)}" for x, y in inside[chosen].tolist()))
            )
        return drawn

    @property
    def x_marks(self) -> list[tuple[float, str]]:
        """Position and text of the ticks of the x axis."""
        return [(self.across(x), f"{x:g}") for x in self.x_ticks]

    @property
    def y_marks(self) -> list[tuple[float, str]]:
        """Position and text of the ticks of the y axis."""
        return [(self.down(y), f"{y:g}") for y in _TENTHS]


@dataclass(frozen=True)
class Table:
    """A table of texts with a title."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """A table of fractions (rows, columns), shaded by their size; NaN is left blank."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    note: str = ""


@dataclass(frozen=True)
class RankedQuery:
    """A query with its nearest gallery images, nearest first, each with whether it is of the same identity."""

    caption: str
    query: Sample
    nearest: Sequence[tuple[Sample, bool]]

    @property
    def drawn(self) -> list[tuple[Sample, str]]:
        """The nearest images, each with the CSS class of its frame."""
        return [(sample, "right" if right else "wrong") for sample, right in self.nearest]


@dataclass(frozen=True)
class Page:
    """The content of the page."""

    title: str
    subtitle: str
    numbers: Sequence[Number]
    notes: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    matrices: Sequence[Matrix] = ()
    ranked: Sequence[RankedQuery] = ()


def write_page(
    path: Path, page: Page, open_image: Callable[[Path], Image.Image], thumbnail: tuple[int, int] = (128, 64)
) -> None:
    """Writes a page as one HTML file, with its images inside.

    Args:
        path: the HTML file to write.
        page: its content.
        open_image: decodes a file to RGB. If it raises an ImageError, the page shows the file's name only.
        thumbnail: height and width of the ranked images.
    Raises: OutputError: the file cannot be written.
    """
    template = resources.files("svllreid.viz").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["thumbnail"] = lambda sample: _thumbnail(sample.path, open_image, thumbnail)
    environment.filters["percent"] = lambda value: "" if math.isnan(value) else f"{100 * value:.1f}"
    size = {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "top": _TOP,
        "thumbnail": thumbnail,
    }
    write_text(path, environment.from_string(template).render(page=page, bottom=_HEIGHT - _BOTTOM, **size))


def _thumbnail(path: Path, open_image: Callable[[Path], Image.Image], size: tuple[int, int]) -> str:
    """An image as a small JPEG in a data URL; an empty text if it cannot be read."""
    try:
        image = open_image(path)
    except ImageError:
        return ""
    with io.BytesIO() as buffer:
        image.resize((size[1], size[0])).save(buffer, format="JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

"""Drawing in body coordinates: x to the right, y upward from the feet; an average person is one unit high."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from svllreid.rendered.attributes import RGB, Person

Point = tuple[float, float]
Fill = RGB | Image.Image


@dataclass(frozen=True)
class Frame:
    """Where a body stands in a layer, and how the camera distorts it.

    Args:
        x, y: the pixel between the feet.
        scale: pixels per body unit.
        facing: 1, or -1 to mirror.
        tilt: how far the camera looks down, 0 to about 0.3: legs shorten, shoulders widen.
        lean: horizontal shift per unit of height.
    """

    x: float
    y: float
    scale: float
    facing: int = 1
    tilt: float = 0.0
    lean: float = 0.0

    def pixel(self, point: Point) -> Point:
        """Converts a point in body coordinates to pixels."""
        x, y = point
        reach = self.facing * x * (1 + self.tilt * (y - 0.5)) + self.lean * y
        return self.x + self.scale * reach, self.y - self.scale * (max(y, 0.0) ** (1 + self.tilt) + min(y, 0.0))

    def length(self, value: float) -> float:
        """Converts a length in body units to pixels, without the camera's distortion."""
        return value * self.scale


class Easel:
    """Draws shapes given in body coordinates on an RGBA layer.

    Fills are colours, or textures of the layer's size.
    """

    def __init__(self, layer: Image.Image, frame: Frame) -> None:
        self.layer = layer
        self.frame = frame
        self._pen = ImageDraw.Draw(layer)

    def polygon(self, points: Sequence[Point], fill: Fill) -> None:
        """Draws a filled polygon."""
        pixels = [self.frame.pixel(point) for point in points]
        if isinstance(fill, tuple):
            self._pen.polygon(pixels, fill=fill)
        else:
            mask = Image.new("L", self.layer.size)
            ImageDraw.Draw(mask).polygon(pixels, fill=255)
            self.layer.paste(fill, mask=mask)

    def limb(self, joints: Sequence[Point], widths: Sequence[float], fill: Fill) -> None:
        """Draws a chain of tapered segments with round joints; `widths` has the width at each joint, in body units."""
        pixels = np.array([self.frame.pixel(joint) for joint in joints])
        radii = np.array([self.frame.length(width) / 2 for width in widths])
        if isinstance(fill, tuple):
            _limb(self._pen, pixels, radii, fill)
        else:
            mask = Image.new("L", self.layer.size)
            _limb(ImageDraw.Draw(mask), pixels, radii, 255)
            self.layer.paste(fill, mask=mask)

    def ellipse(self, centre: Point, rx: float, ry: float, fill: RGB) -> None:
        """Draws an ellipse; radii are in body units."""
        self._pen.ellipse(self._box(centre, rx, ry), fill=fill)

    def dome(self, centre: Point, rx: float, ry: float, fill: RGB) -> None:
        """Draws the upper half of an ellipse."""
        self._pen.chord(self._box(centre, rx, ry), 180, 360, fill=fill)

    def box(self, centre: Point, rx: float, ry: float, fill: RGB) -> None:
        """Draws a rectangle with rounded corners; `rx` and `ry` are half its width and height."""
        self._pen.rounded_rectangle(self._box(centre, rx, ry), radius=self.frame.length(min(rx, ry)) * 0.5, fill=fill)

    def _box(self, centre: Point, rx: float, ry: float) -> tuple[float, float, float, float]:
        x, y = self.frame.pixel(centre)
        rx, ry = self.frame.length(rx), self.frame.length(ry)
        return x - rx, y - ry, x + rx, y + ry


def texture(size: tuple[int, int], frame: Frame, person: Person) -> Fill:
    """The fill of a person's upper garment: a colour, or an RGB image of `size` (width, height) with its pattern."""
    if person.pattern == "plain":
        return person.upper.rgb
    cloth = Image.new("RGB", size, person.upper.rgb)
    pen = ImageDraw.Draw(cloth)
    unit, colour = frame.scale, person.second.rgb
    _, top = frame.pixel((0, 0.86))
    _, bottom = frame.pixel((0, 0.4))
    if person.pattern == "two-tone":
        _, middle = frame.pixel((0, 0.665))
        pen.rectangle((0, middle, size[0], size[1]), fill=colour)
    elif person.pattern == "stripes":
        for y in np.arange(top, bottom, 0.066 * unit).tolist():
            pen.rectangle((0, y, size[0], y + 0.03 * unit), fill=colour)
    else:
        step = 0.06 * unit
        left = frame.x - np.ceil(frame.x / step) * step
        xs, ys = np.arange(left, size[0], step).tolist(), np.arange(top, bottom, step).tolist()
        for row, y in enumerate(ys):
            for column, x in enumerate(xs):
                if person.pattern == "dots":
                    x, r = x + (row % 2) * step / 2, 0.3 * step
                    pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
                elif (row + column) % 2:
                    pen.rectangle((x, y, x + step, y + step), fill=colour)
    return cloth


def shaded(fill: Fill, factor: float) -> Fill:
    """Makes a fill darker (factor below 1) or lighter."""
    if isinstance(fill, tuple):
        return shade(fill, factor)
    return fill.point(lambda value: value * factor)


def shade(rgb: RGB, factor: float) -> RGB:
    """Makes a colour darker (factor below 1) or lighter."""
    red, green, blue = (min(255, int(value * factor)) for value in rgb)
    return red, green, blue


def _limb(pen: ImageDraw.ImageDraw, pixels: np.ndarray, radii: np.ndarray, ink: RGB | int) -> None:
    for (x, y), r in zip(pixels.tolist(), radii.tolist(), strict=True):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    steps = np.diff(pixels, axis=0)
    lengths = np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-6)
    normals = np.stack((-steps[:, 1], steps[:, 0]), axis=1) / lengths  # (joints - 1, 2)
    starts, ends = normals * radii[:-1, None], normals * radii[1:, None]
    corners = (pixels[:-1] + starts, pixels[1:] + ends, pixels[1:] - ends, pixels[:-1] - starts)
    for quad in np.stack(corners, axis=1).tolist():
        pen.polygon([tuple(corner) for corner in quad], fill=ink)

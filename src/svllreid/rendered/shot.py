"""Renders one image: a person in front of a camera."""

from __future__ import annotations

import numpy as np
from PIL import Image

from svllreid.rendered.attributes import OUTFITS, draw_person
from svllreid.rendered.camera import Camera, expose
from svllreid.rendered.easel import Easel, Frame, shade
from svllreid.rendered.figure import VIEWS, Pose, draw_figure

SUPERSAMPLE = 3
_SHOT = 31  # the first word of a random stream's seed


def draw_image(
    seed: int, pid: int, camera: Camera, shot: int, size: tuple[int, int] = (128, 64), alike: int = 1
) -> Image.Image:
    """Renders an image of a person by a camera; the same arguments give the same image.

    Args:
        seed: the population.
        pid: the identity in it.
        camera: made by `make_camera` with the same seed and size.
        shot: number of the image among those of this person by this camera, from 0.
        size: height and width in pixels.
        alike: number of people who share an outfit, as in `draw_person`.
    Returns: an RGB image.
    """
    rng = np.random.default_rng([_SHOT, seed, pid, camera.camid, shot])
    height, width = size
    frame = _detect(rng, camera, size)
    layer = Image.new("RGBA", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    draw_figure(layer, draw_person(seed, pid, alike), _pose(rng, camera), frame)
    if rng.random() < camera.crowding:
        _occlude(layer, rng, seed, camera, frame)
    small = np.asarray(layer.reduce(SUPERSAMPLE), dtype=np.float32)
    scene = _compose(rng, camera, small, frame)
    return expose(camera, scene, rng)


def _detect(rng: np.random.Generator, camera: Camera, size: tuple[int, int]) -> Frame:
    """Where the person is in the image, which a detector's inexact box cuts out."""
    height, width = (side * SUPERSAMPLE for side in size)
    share = camera.zoom * rng.uniform(0.84, 0.98)
    slack = rng.normal(0, 0.02) if rng.random() < 0.85 else rng.uniform(-0.1, 0.12)
    return Frame(
        x=width * (0.5 + rng.normal(0, 0.05)),
        y=height * (0.5 + share / 2 + slack),
        scale=height * share,
        tilt=camera.tilt + rng.uniform(-0.02, 0.02),
        lean=rng.normal(0, 0.015),
    )


def _pose(rng: np.random.Generator, camera: Camera) -> Pose:
    view = VIEWS[int(rng.choice(len(VIEWS), p=camera.view_odds))]
    return Pose(view=view, stride=rng.uniform(-1, 1), swing=rng.uniform(0.2, 1.0))


def _occlude(layer: Image.Image, rng: np.random.Generator, seed: int, camera: Camera, frame: Frame) -> None:
    """Draws an object in front of the person: a passer-by, a pole, a bin or a bush."""
    side = float(rng.choice((-1.0, 1.0)))
    kind = rng.integers(4)
    if kind == 0:
        stranger = draw_person(seed, int(rng.integers(10**6, 10**6 + len(OUTFITS))))
        aside = Frame(frame.x + side * rng.uniform(0.26, 0.36) * frame.scale, frame.y * 1.04, frame.scale * 1.05)
        draw_figure(layer, stranger, _pose(rng, camera), aside)
        return
    easel = Easel(layer, Frame(frame.x, max(frame.y, 0.97 * layer.height), frame.scale))
    if kind == 1:
        x, grey = side * rng.uniform(0.04, 0.22), int(rng.integers(50, 170))
        easel.box((x, 0.5), 0.022, 0.8, (grey, grey, grey))
        easel.box((x - 0.008, 0.5), 0.006, 0.8, shade((grey, grey, grey), 1.3))
    elif kind == 2:
        x, colour = side * rng.uniform(0.08, 0.2), ((60, 96, 70), (70, 78, 92), (150, 60, 40))[rng.integers(3)]
        easel.box((x, 0.1), 0.12, 0.17, colour)
        easel.box((x, 0.27), 0.135, 0.025, shade(colour, 0.7))
    else:
        for _ in range(24):
            leaf = shade((62, 104, 48), rng.uniform(0.6, 1.25))
            x, y = side * rng.uniform(-0.05, 0.28), rng.uniform(-0.05, 0.26)
            easel.ellipse((x, y), rng.uniform(0.03, 0.07), rng.uniform(0.03, 0.06), leaf)


def _compose(rng: np.random.Generator, camera: Camera, figure: np.ndarray, frame: Frame) -> np.ndarray:
    """Puts the (H, W, 4) figure before the background and lights both: (H, W, 3) float, 0 to 255 or a little more."""
    height, width = figure.shape[:2]
    top = int(rng.integers(camera.background.shape[0] - height + 1))
    left = int(rng.integers(camera.background.shape[1] - width + 1))
    scene = camera.background[top : top + height, left : left + width]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    foot_x, foot_y, unit = frame.x / SUPERSAMPLE, frame.y / SUPERSAMPLE, frame.scale / SUPERSAMPLE
    sun = rng.uniform(-1, 1)
    shadow = ((xs - foot_x - 0.1 * sun * unit) / (0.2 * unit)) ** 2 + ((ys - foot_y) / (0.035 * unit)) ** 2
    scene = scene * (1 - 0.5 * np.exp(-shadow))[..., None]
    across = np.clip((xs - foot_x) / (0.16 * unit), -1, 1)
    relief = 1 - 0.28 * sun * across - 0.08 * across**2 + _folds(rng, height, width)
    alpha = figure[..., 3:] / 255
    scene = scene + alpha * (figure[..., :3] * relief[..., None] - scene)
    slope = rng.uniform(-0.18, 0.18) * (xs / width - 0.5) + rng.uniform(-0.2, 0.2) * (ys / height - 0.5)
    return scene * (np.exp(rng.normal(0, 0.12)) * (1 + slope))[..., None]


def _folds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Random folds of cloth: (H, W) changes of brightness around 0."""
    coarse = Image.fromarray(rng.normal(0, 0.06, (17, 9)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))

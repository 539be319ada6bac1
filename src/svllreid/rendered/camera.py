"""Cameras: the place behind the people, rendering of colours, and losses of lens and sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from svllreid.rendered.scene import SCENES, paint_scene

MAX_CAMERAS = 6  # as many as Market-1501, whose layout is written
PANORAMA = 6.0  # width of the background, in image heights
HEADROOM = 1.15  # height of the background, in image heights
_CAMERA, _SITE = 21, 22  # the first word of a random stream's seed


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera, whose properties are the same in all its images.

    Args:
        camid: zero-based.
        style: kind of place, a key of SCENES.
        background: (h, w, 3) float32, 0 to 255, the place without people.
        gains: (3,) white balance; brightness, gamma, contrast, saturation: its other colour settings.
        mixing: (3, 3) matrix from the light's red, green and blue to the camera's.
        view_odds: (4,) probabilities of the figure's VIEWS.
        tilt: how far it looks down, 0 to 0.3; zoom: factor on the size of people.
        blur: Gaussian sigma in 1/128 of the image height; resolution: share of the pixels per side that it resolves.
        noise: standard deviation of the sensor noise, 0 to 255.
        crowding: probability that something stands in front of the person.
    """

    camid: int
    style: str
    background: np.ndarray
    gains: np.ndarray
    brightness: float
    gamma: float
    contrast: float
    saturation: float
    mixing: np.ndarray
    view_odds: np.ndarray
    tilt: float
    zoom: float
    blur: float
    resolution: float
    noise: float
    crowding: float


def make_camera(seed: int, camid: int, size: tuple[int, int] = (128, 64), hue: float = 0) -> Camera:
    """Makes the camera numbered `camid` of the site `seed`.

    The six cameras of a site show six different kinds of place.

    Args:
        seed: the site, 0 or more.
        camid: zero-based number of the camera.
        size: height and width of its images in pixels.
        hue: the largest angle in degrees, in either direction, by which a camera turns hues. At 90, the red of one
            camera is green in another.
    """
    rng, site = np.random.default_rng([_CAMERA, seed, camid]), np.random.default_rng([_SITE, seed])

    def spread(low: float, high: float) -> float:
        """Draws a value from this camera's own sixth of a range, so that the cameras of a site differ."""
        part = int(site.permutation(MAX_CAMERAS)[camid % MAX_CAMERAS])
        return low + (high - low) * (part + rng.random()) / MAX_CAMERAS

    style = str(site.permutation(list(SCENES))[camid % len(SCENES)])
    warmth, tint = spread(-0.16, 0.16), spread(-0.09, 0.09)
    height = size[0]
    return Camera(
        camid=camid,
        style=style,
        gains=np.exp(np.array((warmth, tint, -warmth), dtype=np.float32)),
        brightness=float(np.exp(spread(-0.22, 0.22))),
        gamma=spread(0.8, 1.3),
        contrast=spread(0.75, 1.12),
        saturation=spread(0.65, 1.15),
        view_odds=rng.dirichlet((0.9, 0.9, 0.6, 0.6)),
        tilt=spread(0.0, 0.22),
        zoom=spread(0.92, 1.04),
        blur=spread(0.2, 0.8),
        resolution=spread(0.5, 1.0),
        noise=spread(2, 8),
        crowding=spread(0.05, 0.22),
        background=paint_scene(rng, style, int(height * HEADROOM), max(int(height * PANORAMA), 2 * size[1])),
        mixing=turn_hues(math.radians(spread(-hue, hue))),
    )


def turn_hues(angle: float) -> np.ndarray:
    """The (3, 3) float32 matrix that turns hues by `angle` in radians; greys and the sum of the channels are kept."""
    axis = np.full(3, 3**-0.5)
    cross = np.cross(np.eye(3), axis)
    along = np.outer(axis, axis)
    return (math.cos(angle) * (np.eye(3) - along) + along + math.sin(angle) * cross).astype(np.float32)


def expose(camera: Camera, scene: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Takes the image of a scene: colours, blur, resolution and noise of the camera.

    Args:
        camera: its properties.
        scene: (H, W, 3) float, the light: 0 to 255, or brighter.
        rng: source of this image's blur and noise.
    Returns: an RGB image of H x W pixels.
    """
    light = np.clip(scene.astype(np.float32) / 255, 0, 1.6) @ camera.mixing.T * camera.gains * camera.brightness
    grey = light.mean(axis=2, keepdims=True)
    light = np.clip(grey + camera.saturation * (light - grey), 0, None) ** camera.gamma
    light = 0.5 + camera.contrast * (light - 0.5)
    blurred = _soften(camera, Image.fromarray(_to_bytes(light * 255)), rng)
    pixels = np.asarray(blurred, dtype=np.float32)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(_to_bytes(pixels + camera.noise * noise))


def _soften(camera: Camera, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    sharpness = camera.resolution * rng.uniform(0.8, 1.0)
    if sharpness < 0.95:
        small = max(1, round(width * sharpness)), max(1, round(height * sharpness))
        image = image.resize(small, Image.Resampling.BILINEAR).resize((width, height), Image.Resampling.BILINEAR)
    defocus = camera.blur * rng.uniform(0.6, 1.5) * height / 128
    image = image.filter(ImageFilter.GaussianBlur(defocus))
    if rng.random() < 0.15:  # motion blur
        pixels, reach = np.asarray(image, dtype=np.float32), max(1, height // 100)
        shifts = range(-reach, reach + 1)
        smear = np.mean([np.roll(pixels, shift, axis=1) for shift in shifts], axis=0)
        image = Image.fromarray(_to_bytes(smear))
    return image


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

"""The background of images: six kinds of place. A camera has one, painted once as a wide panorama."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from svllreid.rendered.attributes import RGB

Painter = Callable[[np.random.Generator, int, int, int], np.ndarray]
MUTED = 0.7  # saturation of the background, below 1 so that clothes stand out from it


def paint_scene(rng: np.random.Generator, style: str, height: int, width: int) -> np.ndarray:
    """Paints a place without people.

    Args:
        rng: source of all that differs between two places of one style.
        style: a key of SCENES.
        height, width: of the panorama, in pixels.
    Returns: (height, width, 3) float32, 0 to 255.
    """
    horizon = int(height * rng.uniform(0.42, 0.6))
    scene = np.clip(SCENES[style](rng, height, width, horizon), 0, 255)
    scene = MUTED * scene + (1 - MUTED) * scene.mean(axis=2, keepdims=True)
    image = Image.fromarray(scene.astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.006 * height))
    return np.asarray(image, dtype=np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """A smooth random field, (height, width) float32 in about [-1, 1], varying over `cell` pixels."""
    shape = int(height / cell) + 2, int(width / cell) + 2
    coarse = Image.fromarray(rng.uniform(-1, 1, shape).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _hall(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    canvas, pen = _canvas(height, width, _tone(rng, (205, 200, 188)))
    panel = height * rng.uniform(0.5, 0.9)
    for x in np.arange(0, width, panel):
        pen.line((x, 0, x, horizon), fill=_tone(rng, (150, 146, 138)), width=max(1, height // 60))
        kind = rng.integers(3)
        left, right = x + 0.15 * panel, x + 0.85 * panel
        if kind == 0:
            pen.rectangle((left, horizon * 0.15, right, horizon), fill=_tone(rng, (120, 84, 58), 30))
        elif kind == 1:
            pen.rectangle((left, horizon * 0.3, right, horizon * 0.75), fill=_any_colour(rng))
    pen.rectangle((0, horizon - height // 32, width, horizon), fill=_tone(rng, (90, 86, 82)))
    u, z, near = _ground(height, width, horizon)
    tiles = (np.floor(u * 5) + np.floor(z * 5)) % 2
    floor = np.array(_tone(rng, (186, 182, 172))) - 38 * (tiles * near)[..., None]
    return _stand_on(canvas, floor, horizon)


def _street(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    canvas, pen = _canvas(height, width, _tone(rng, (150, 88, 70), 30))
    brick = max(2, height // 24)
    for row, y in enumerate(range(0, horizon, brick)):
        pen.line((0, y, width, y), fill=(176, 160, 148))
        for x in range((row % 2) * brick, width, 2 * brick):
            pen.line((x, y, x, y + brick), fill=(172, 152, 138))
    step = height * rng.uniform(0.45, 0.7)
    for left in np.arange(rng.uniform(0, step), width, step):
        window = (left, horizon * 0.1, left + 0.6 * step, horizon * rng.choice((0.7, 1.0)))
        pen.rectangle(window, fill=_tone(rng, (56, 66, 80), 25), outline=(214, 208, 196), width=max(1, height // 50))
    floor = np.full((height - horizon, width, 3), _tone(rng, (118, 118, 120)), dtype=np.float32)
    u, z, near = _ground(height, width, horizon)
    floor[z > 2.4] = _tone(rng, (160, 156, 150))
    floor -= 34 * (((u * 3) % 1 < 0.06) * near * (z > 2.4))[..., None]
    floor[(z > 2.1) & (z < 2.4)] = (196, 192, 184)
    return _stand_on(canvas, floor + 14 * rng.standard_normal(z.shape)[..., None], horizon)


def _park(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    sky = np.array(_tone(rng, (188, 206, 222)))
    layers = [smooth_noise(rng, horizon, width, height / cells) / cells**0.3 for cells in (4, 10, 32)]
    leaves = np.sum(layers, axis=0)
    depth = np.linspace(-0.7, 1.0, horizon)[:, None]
    green = np.array(_tone(rng, (66, 96, 48))) + 46 * leaves[..., None]
    top = np.where((leaves + depth)[..., None] > 0, green, sky)
    canvas = Image.fromarray(np.clip(top, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for x in rng.uniform(0, width, 9):
        trunk = height * rng.uniform(0.02, 0.06)
        pen.rectangle((x, 0, x + trunk, horizon), fill=_tone(rng, (74, 56, 40)))
    full = Image.new("RGB", (width, height))
    full.paste(canvas)
    u, z, _ = _ground(height, width, horizon)
    grass = smooth_noise(rng, height - horizon, width, height / 40) + 0.5 * rng.standard_normal(z.shape)
    floor = np.array(_tone(rng, (96, 128, 58))) + 26 * grass[..., None]
    path = np.abs(z - 1.5 - 0.25 * np.sin(u)) < rng.uniform(0.2, 0.4)
    floor[path] = np.array(_tone(rng, (184, 166, 132))) + 8 * grass[path][:, None]
    return _stand_on(full, floor, horizon)


def _plaza(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    canvas, pen = _canvas(height, width, _tone(rng, (200, 212, 224)))
    x = 0.0
    while x < width:
        step, top = height * rng.uniform(0.25, 0.7), horizon * rng.uniform(0.0, 0.6)
        wall = _tone(rng, (150, 148, 150), 45)
        pen.rectangle((x, top, x + step, horizon), fill=wall)
        pane = max(3, height // 20)
        for row in np.arange(top + pane, horizon - pane, 2 * pane):
            for column in np.arange(x + pane, x + step - pane, 2 * pane):
                pen.rectangle((column, row, column + pane, row + pane), fill=_tone(rng, (84, 96, 112), 20))
        x += step
    for x in rng.uniform(0, width, 5):
        pen.rectangle((x, 0, x + height / 50, horizon), fill=(48, 52, 54))
    u, z, near = _ground(height, width, horizon)
    joint = ((u * 4 + 0.5 * (np.floor(z * 6) % 2)) % 1 < 0.08) | ((z * 6) % 1 < 0.12)
    stone = smooth_noise(rng, height - horizon, width, height / 24) * 14
    floor = np.array(_tone(rng, (176, 160, 144))) - 46 * (joint * near)[..., None] + stone[..., None]
    return _stand_on(canvas, floor, horizon)


def _station(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    canvas, pen = _canvas(height, width, _tone(rng, (66, 74, 84)))
    step = height * rng.uniform(0.6, 0.9)
    for x in np.arange(0, width, step):
        advert = (x + 0.25 * step, horizon * 0.2, x + 0.85 * step, horizon * 0.8)
        pen.rectangle(advert, fill=_any_colour(rng), outline=(236, 236, 230), width=max(1, height // 50))
        spot = (x + 0.4 * step, horizon * 0.35, x + 0.7 * step, horizon * 0.65)
        pen.ellipse(spot, fill=_any_colour(rng))
        pen.rectangle((x, 0, x + 0.12 * step, horizon), fill=_tone(rng, (120, 126, 130)))
    u, z, near = _ground(height, width, horizon)
    floor = np.array(_tone(rng, (104, 106, 110))) - 24 * (((u * 4) % 1 < 0.06) * near)[..., None]
    floor[np.abs(z - rng.uniform(1.3, 2.2)) < 0.12] = (214, 184, 60)
    return _stand_on(canvas, floor, horizon)


def _shop(rng: np.random.Generator, height: int, width: int, horizon: int) -> np.ndarray:
    canvas, pen = _canvas(height, width, _tone(rng, (222, 216, 204)))
    shelf = max(8, int(height * rng.uniform(0.12, 0.18)))
    for bottom in range(shelf, horizon + 1, shelf):
        x = 0.0
        while x < width:
            step = height * rng.uniform(0.03, 0.1)
            pen.rectangle((x, bottom - shelf * rng.uniform(0.4, 0.85), x + step * 0.85, bottom), fill=_any_colour(rng))
            x += step
        pen.rectangle((0, bottom, width, bottom + max(1, height // 60)), fill=(150, 130, 104))
    u, _, near = _ground(height, width, horizon)
    grain = smooth_noise(rng, height - horizon, width, height / 12) * 12
    planks = ((u * 6) % 1 < 0.08) * near
    floor = np.array(_tone(rng, (166, 124, 84))) + 12 * (np.floor(u * 6) % 3)[..., None] - 40 * planks[..., None]
    return _stand_on(canvas, floor + grain[..., None], horizon)


SCENES: dict[str, Painter] = {
    "hall": _hall,
    "street": _street,
    "park": _park,
    "plaza": _plaza,
    "station": _station,
    "shop": _shop,
}


def _canvas(height: int, width: int, tone: RGB) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (width, height), tone)
    return canvas, ImageDraw.Draw(canvas)


def _tone(rng: np.random.Generator, rgb: RGB, spread: int = 18) -> RGB:
    red, green, blue = np.clip(np.array(rgb) + rng.integers(-spread, spread + 1, 3), 0, 255).tolist()
    return red, green, blue


def _any_colour(rng: np.random.Generator) -> RGB:
    red, green, blue = rng.integers(40, 235, 3).tolist()
    return red, green, blue


def _ground(height: int, width: int, horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the pixels below the horizon lie on the ground: across, depth (1 at the bottom edge), nearness (0 to 1)."""
    near = (np.arange(height - horizon) + 0.5) / (height - horizon)
    depth = 1 / near[:, None]
    across = (np.arange(width) - width / 2)[None] / height * depth
    full = np.broadcast_to(depth, across.shape)
    return across, full, np.broadcast_to(near[:, None], across.shape)


def _stand_on(canvas: Image.Image, floor: np.ndarray, horizon: int) -> np.ndarray:
    scene = np.array(canvas, dtype=np.float32)
    scene[horizon:] = floor
    return scene

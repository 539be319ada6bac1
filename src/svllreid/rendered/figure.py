"""Draws a walking person from the front, the back or a side, part by part from far to near."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from svllreid.rendered.attributes import Person
from svllreid.rendered.easel import Easel, Fill, Frame, Point, shade, shaded, texture

VIEWS = ("front", "back", "left", "right")
FAR = 0.78  # factor on the brightness of a limb in the shade behind the body
BRIM = 0.945  # height of the hat's brim, in body units


@dataclass(frozen=True)
class Pose:
    """The pose of a walking person.

    Args:
        view: the side that the camera sees, one of VIEWS; in `left` the person walks to the left of the image.
        stride: -1 to 1, which leg is forward and how far.
        swing: 0 to 1, how far the arms swing.
    """

    view: str
    stride: float
    swing: float

    @property
    def sideways(self) -> bool:
        """Whether the camera sees a profile."""
        return self.view in ("left", "right")


def draw_figure(layer: Image.Image, person: Person, pose: Pose, frame: Frame) -> None:
    """Draws a person on an RGBA layer, which is changed.

    Args:
        layer: RGBA, of any size.
        person: whom to draw.
        pose: viewpoint and gait.
        frame: place and scale in the layer, for a person of average height; `facing` is set by the pose.
    """
    frame = replace(frame, scale=frame.scale * person.height, facing=-1 if pose.view == "left" else 1)
    easel = Easel(layer, frame)
    cloth = texture(layer.size, frame, person)
    if pose.sideways:
        _draw_sideways(easel, person, pose, cloth)
    else:
        _draw_upright(easel, person, pose, cloth)


def _draw_upright(easel: Easel, person: Person, pose: Pose, cloth: Fill) -> None:
    front, width = pose.view == "front", person.width
    narrow, wide = (0.94, 1.07) if person.sex == "woman" else (1.02, 0.98)
    shoulder, waist, hip = 0.108 * width * narrow, 0.084 * width, 0.094 * width * wide
    hand_side = -1 if front else 1  # the handbag hangs from the right hand
    for side in (-1, 1):
        lift = 0.035 * max(0.0, side * pose.stride)
        knee_x = side * (0.056 * width + 0.3 * lift)
        leg = ((side * 0.052 * width, 0.5), (knee_x, 0.28 + 0.4 * lift), (side * 0.052 * width, 0.055 + lift))
        _leg(easel, person, leg, 1.0 if lift else 0.92)
        easel.ellipse((leg[-1][0] + side * 0.006, 0.02 + lift), 0.032, 0.026, person.shoes.rgb)
    _pelvis(easel, person, hip)
    if front and person.bag is not None and person.bag.kind == "backpack":
        easel.box((0, 0.7), shoulder + 0.012, 0.1, shade(person.bag.tint.rgb, FAR))
    for side in (-1, 1):
        lift = 0.05 * pose.swing * max(0.0, -side * pose.stride)
        arm = (
            (side * (shoulder - 0.018), 0.778),
            (side * (shoulder + 0.024), 0.64 + 0.4 * lift),
            (side * (shoulder + 0.026 - 0.5 * lift), 0.49 + lift),
        )
        if side == hand_side:
            _handbag(easel, person, arm[-1])
        _arm(easel, person, arm, cloth, 0.86)
    half = [(0.03, 0.842), (shoulder * 0.72, 0.82), (shoulder, 0.785), (waist, 0.63), (hip, 0.5)]
    trunk = [*half, *((-x, y) for x, y in reversed(half))]
    if person.jacket is None:
        easel.polygon(trunk, cloth)
    else:
        easel.polygon(trunk, person.jacket.rgb)
        if front:
            easel.polygon([(-0.02, 0.842), (0.02, 0.842), (0.42 * hip, 0.5), (-0.42 * hip, 0.5)], cloth)
    _upright_bag(easel, person, front, shoulder)
    _upright_head(easel, person, front)


def _draw_sideways(easel: Easel, person: Person, pose: Pose, cloth: Fill) -> None:
    width, left = person.width, pose.view == "left"
    depth = 0.07 * (0.4 + 0.6 * width)
    swing = 0.7 * pose.swing * pose.stride
    if left:  # the right hand is the far one
        _handbag(easel, person, _bent((0, 0.782), swing)[-1])
    _arm(easel, person, _bent((0, 0.782), swing), cloth, FAR * 0.86)
    for sign, light in ((-1, FAR), (1, 1.0)):
        leg = _striding(sign * pose.stride)
        _leg(easel, person, leg, light)
        ankle_x, ankle_y = leg[-1]
        easel.ellipse((ankle_x + 0.024, ankle_y - 0.034), 0.046, 0.024, shade(person.shoes.rgb, light))
    _pelvis(easel, person, depth * 0.95)
    if person.bag is not None and person.bag.kind == "backpack":
        easel.box((-depth - 0.03, 0.71), 0.05, 0.105, person.bag.tint.rgb)
        easel.box((-depth - 0.06, 0.67), 0.025, 0.05, shade(person.bag.tint.rgb, 0.8))
    trunk = [(0.026, 0.842), (depth * 0.75, 0.795), (depth, 0.72), (depth * 0.95, 0.6), (depth * 0.95, 0.5)]
    back = [(-0.03, 0.842), (-depth * 0.9, 0.785), (-depth, 0.7), (-depth * 0.85, 0.6), (-depth, 0.5)]
    easel.polygon([*trunk, *reversed(back)], cloth)
    if person.jacket is not None:  # open to the front, where the shirt shows
        opening = [(0.012, 0.842), (depth * 0.4, 0.795), (depth * 0.5, 0.72), (depth * 0.45, 0.5)]
        easel.polygon([*opening, *reversed(back)], person.jacket.rgb)
    _sideways_bag(easel, person, left, depth)
    arm = _bent((-0.004, 0.782), -swing)
    if not left:
        _handbag(easel, person, arm[-1])
    _arm(easel, person, arm, cloth, 0.86)
    _sideways_head(easel, person)


def _striding(stride: float) -> tuple[Point, Point, Point]:
    thigh = 0.5 * stride
    shin = thigh - (0.12 + 0.45 * max(0.0, -stride))  # the trailing knee bends most
    knee = (0.23 * np.sin(thigh), 0.5 - 0.23 * np.cos(thigh))
    return (0.0, 0.5), knee, (knee[0] + 0.215 * np.sin(shin), knee[1] - 0.215 * np.cos(shin))


def _bent(shoulder: Point, angle: float) -> tuple[Point, Point, Point]:
    elbow = (shoulder[0] + 0.155 * np.sin(angle), shoulder[1] - 0.155 * np.cos(angle))
    fore = angle + 0.28
    return shoulder, elbow, (elbow[0] + 0.15 * np.sin(fore), elbow[1] - 0.15 * np.cos(fore))


def _leg(easel: Easel, person: Person, leg: tuple[Point, Point, Point], light: float) -> None:
    hip, knee, _ = leg
    girth = 0.5 + 0.5 * person.width
    cloth = shade(person.lower.rgb, light)
    if person.lower_kind == "trousers":
        easel.limb(leg, (0.1 * girth, 0.08 * girth, 0.062 * girth), cloth)
        return
    easel.limb(leg, (0.085 * girth, 0.062 * girth, 0.042 * girth), shade(person.skin.rgb, light))
    if person.lower_kind == "shorts":
        hem = (hip[0] + 0.82 * (knee[0] - hip[0]), hip[1] + 0.82 * (knee[1] - hip[1]))
        easel.limb((hip, hem), (0.105 * girth, 0.1 * girth), cloth)


def _pelvis(easel: Easel, person: Person, hip: float) -> None:
    if person.lower_kind == "skirt":
        easel.polygon([(-hip, 0.53), (hip, 0.53), (hip * 1.4, 0.31), (-hip * 1.4, 0.31)], person.lower.rgb)
    else:
        easel.polygon([(-hip, 0.53), (hip, 0.53), (hip * 0.98, 0.47), (-hip * 0.98, 0.47)], person.lower.rgb)


def _arm(easel: Easel, person: Person, arm: tuple[Point, Point, Point], cloth: Fill, light: float) -> None:
    cloth = shaded(cloth if person.jacket is None else person.jacket.rgb, light)
    shoulder, elbow, wrist = arm
    girth = 0.5 + 0.5 * person.width
    easel.ellipse((wrist[0], wrist[1] - 0.012), 0.022, 0.028, person.skin.rgb)
    if person.sleeves == "long" or person.jacket is not None:
        easel.limb(arm, (0.066 * girth, 0.056 * girth, 0.046 * girth), cloth)
        return
    easel.limb(arm, (0.056 * girth, 0.046 * girth, 0.036 * girth), shade(person.skin.rgb, 0.92))
    if person.sleeves == "short":
        hem = (shoulder[0] + 0.65 * (elbow[0] - shoulder[0]), shoulder[1] + 0.65 * (elbow[1] - shoulder[1]))
        easel.limb((shoulder, hem), (0.068 * girth, 0.068 * girth), cloth)


def _handbag(easel: Easel, person: Person, hand: Point) -> None:
    if person.bag is not None and person.bag.kind == "handbag":
        x, y = hand
        easel.polygon([(x - 0.035, y - 0.09), (x, y), (x + 0.035, y - 0.09)], shade(person.bag.tint.rgb, 0.6))
        easel.box((x, y - 0.12), 0.06, 0.052, person.bag.tint.rgb)


def _upright_bag(easel: Easel, person: Person, front: bool, shoulder: float) -> None:
    if person.bag is None or person.bag.kind == "handbag":
        return
    colour, dark = person.bag.tint.rgb, shade(person.bag.tint.rgb, 0.7)
    if person.bag.kind == "shoulder bag":
        hip = (0.125 if front else -0.125) * person.width  # it hangs at the left hip
        easel.limb(((-hip * 0.6, 0.83), (hip * 0.85, 0.56)), (0.022, 0.022), dark)
        easel.box((hip, 0.5), 0.055, 0.058, colour)
    elif front:
        for side in (-1, 1):
            x = side * shoulder * 0.62
            easel.limb(((x, 0.835), (x * 1.08, 0.75), (x * 1.25, 0.67)), (0.03, 0.028, 0.022), colour)
    else:
        easel.box((0, 0.705), 0.098, 0.125, colour)
        easel.box((0, 0.655), 0.072, 0.052, dark)


def _sideways_bag(easel: Easel, person: Person, left: bool, depth: float) -> None:
    if person.bag is None or person.bag.kind == "handbag":
        return
    colour, dark = person.bag.tint.rgb, shade(person.bag.tint.rgb, 0.7)
    if person.bag.kind == "backpack":
        easel.limb(((-0.02, 0.835), (depth * 0.6, 0.77), (-depth * 0.6, 0.64)), (0.026, 0.026, 0.02), dark)
    elif left:
        easel.limb(((0.0, 0.84), (-0.01, 0.56)), (0.022, 0.022), dark)
        easel.box((-0.015, 0.5), 0.07, 0.06, colour)
    else:
        easel.limb(((0.0, 0.84), (depth * 0.8, 0.62)), (0.022, 0.022), dark)


def _upright_head(easel: Easel, person: Person, front: bool) -> None:
    hair, skin = person.hair.rgb, person.skin.rgb
    if front:
        _mane(easel, person, -0.064, 0.064)
        easel.limb(((0, 0.88), (0, 0.832)), (0.046, 0.052), shade(skin, 0.82))
        easel.ellipse((0, 0.94), 0.056, 0.064, hair)
        easel.ellipse((0, 0.922), 0.045, 0.06, skin)
        if person.beard:
            easel.ellipse((0, 0.886), 0.038, 0.026, shade(hair, 0.85))
        if person.hair_length != "short":
            easel.dome((0, 0.952), 0.05, 0.032, hair)
        for side in (-1, 1):
            easel.ellipse((side * 0.018, 0.928), 0.0075, 0.006, (40, 30, 30))
        easel.ellipse((0, 0.89), 0.014, 0.005, shade(skin, 0.65))
    else:
        easel.limb(((0, 0.88), (0, 0.832)), (0.046, 0.052), shade(skin, 0.86))
        easel.ellipse((0, 0.918), 0.05, 0.06, skin)
        _mane(easel, person, -0.06, 0.06)
        easel.ellipse((0, 0.94), 0.056, 0.064, hair)
    _hat(easel, person, 0.046 if front else None, 0.0)


def _sideways_head(easel: Easel, person: Person) -> None:
    hair, skin = person.hair.rgb, person.skin.rgb
    easel.limb(((0.0, 0.88), (-0.004, 0.832)), (0.046, 0.052), shade(skin, 0.85))
    easel.ellipse((0.01, 0.918), 0.052, 0.062, skin)
    easel.ellipse((0.062, 0.908), 0.011, 0.011, skin)
    easel.ellipse((0.042, 0.922), 0.0065, 0.006, (40, 30, 30))
    if person.beard:
        easel.ellipse((0.03, 0.885), 0.032, 0.026, shade(hair, 0.85))
    _mane(easel, person, -0.06, 0.004)
    easel.dome((0.002, 0.94), 0.061, 0.064, hair)
    easel.ellipse((-0.02, 0.935), 0.042, 0.05, hair)
    _hat(easel, person, 0.04, 0.068)


def _mane(easel: Easel, person: Person, left: float, right: float) -> None:
    """Draws the hair below the ears."""
    end = {"short": 0.91, "medium": 0.852, "long": 0.76}[person.hair_length]
    if person.hair_length != "short":
        corner = 0.018
        outline = [(left, 0.94), (right, 0.94), (right, end + corner), (right - corner, end)]
        easel.polygon([*outline, (left + corner, end), (left, end + corner)], person.hair.rgb)


def _hat(easel: Easel, person: Person, visor: float | None, forward: float) -> None:
    """Draws the hat, its visor `visor` wide and shifted by `forward`; None hides the visor."""
    if person.hat is None:
        return
    colour = person.hat.tint.rgb
    if person.hat.kind == "beanie":
        easel.dome((0, BRIM - 0.01), 0.065, 0.082, colour)
        easel.box((0, BRIM), 0.066, 0.014, shade(colour, 0.78))
        return
    easel.dome((0, BRIM - 0.012), 0.065, 0.07, colour)
    if visor is not None:
        easel.ellipse((forward, BRIM - 0.008), visor + 0.008, 0.013, shade(colour, 0.62))

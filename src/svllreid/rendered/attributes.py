"""The attributes of rendered people that are the same in all their images; they depend on seed and pid only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TypeVar

import numpy as np

RGB = tuple[int, int, int]
T = TypeVar("T")

PALETTE: dict[str, RGB] = {
    "black": (30, 30, 34),
    "white": (236, 236, 232),
    "grey": (132, 134, 138),
    "red": (192, 34, 40),
    "orange": (230, 118, 34),
    "yellow": (232, 204, 58),
    "green": (44, 128, 66),
    "light blue": (116, 176, 222),
    "dark blue": (32, 46, 116),
    "purple": (112, 54, 144),
    "pink": (232, 136, 172),
    "brown": (110, 70, 42),
    "beige": (208, 186, 146),
}
SKIN: dict[str, RGB] = {
    "pale": (240, 208, 186),
    "light": (224, 180, 148),
    "olive": (196, 150, 110),
    "brown": (146, 100, 68),
    "dark": (92, 62, 46),
}
HAIR: dict[str, RGB] = {
    "black": (26, 22, 22),
    "brown": (84, 54, 34),
    "blond": (206, 172, 98),
    "red": (150, 66, 30),
    "grey": (158, 156, 154),
}
HAIR_LENGTHS = ("short", "medium", "long")
PATTERNS = ("plain", "stripes", "checks", "dots", "two-tone")
SLEEVES = ("long", "short", "none")
TROUSERS = ("black", "grey", "dark blue", "light blue", "brown", "beige", "green", "white", "red", "purple")
SHORTS = ("black", "grey", "beige", "light blue", "red", "green")
SKIRTS = ("black", "dark blue", "red", "beige", "pink", "purple", "yellow")
JACKETS = ("black", "grey", "dark blue", "brown", "beige", "green", "red", "white")
LOWERS = tuple(
    (kind, colour)
    for kind, colours in (("trousers", TROUSERS), ("shorts", SHORTS), ("skirt", SKIRTS))
    for colour in colours
)
OUTFITS = tuple(product(PALETTE, PATTERNS, LOWERS))
_PERSON, _OUTFITS = 11, 12  # the first word of a random stream's seed; a different one for each purpose


@dataclass(frozen=True)
class Tint:
    """A colour of one person: a colour of the palette, in a random shade.

    Args:
        name: the colour's name in the palette.
        rgb: the shade, 0 to 255.
    """

    name: str
    rgb: RGB


@dataclass(frozen=True)
class Item:
    """A bag (`backpack`, `shoulder bag`, `handbag`) or a hat (`cap`, `beanie`)."""

    kind: str
    tint: Tint


@dataclass(frozen=True)
class Person:
    """A person, with all that is the same in every image.

    Args:
        pid: identity.
        sex: `woman` or `man`; beard: whether it is a man with a beard.
        stature, height: `short`, `average` or `tall`, and the factor on the drawn height.
        build, width: `slim`, `average` or `broad`, and the factor on the drawn width.
        skin, hair: colours; hair_length: one of HAIR_LENGTHS.
        upper, second: first and second colour of the upper garment; the pattern `plain` shows the first only.
        pattern: one of PATTERNS; sleeves: one of SLEEVES.
        jacket: colour of a jacket with long sleeves, open over the upper garment; None without one.
        lower_kind, lower: `trousers`, `shorts` or `skirt`, and its colour.
        shoes: colour.
        bag, hat: None without one.
    """

    pid: int
    sex: str
    beard: bool
    stature: str
    height: float
    build: str
    width: float
    skin: Tint
    hair: Tint
    hair_length: str
    upper: Tint
    second: Tint
    pattern: str
    sleeves: str
    jacket: Tint | None
    lower_kind: str
    lower: Tint
    shoes: Tint
    bag: Item | None
    hat: Item | None


def draw_person(seed: int, pid: int, alike: int = 1) -> Person:
    """Draws the person numbered `pid` of the population `seed`; the same arguments give the same person.

    The outfit (colour and pattern of the upper garment, kind and colour of the lower one) is taken from a shuffled list
    of all 1,495 outfits. So two people have the same outfit only if their pids differ by 1,495 or more, or if `alike`
    is above 1. All other attributes are drawn independently.

    >>> draw_person(seed=0, pid=1) == draw_person(seed=0, pid=1)
    True

    Args:
        seed: the population, 0 or more.
        pid: the identity, 0 or more.
        alike: number of people with adjacent pids (1 to `alike`, and so on) who wear the same outfit.
    Raises: ValueError: seed or pid is negative.
    """
    rng = np.random.default_rng([_PERSON, seed, pid])
    upper, pattern, (lower_kind, lower) = OUTFITS[_outfit_order(seed)[(pid + alike - 1) // alike % len(OUTFITS)]]
    woman = lower_kind == "skirt" or rng.random() < 0.42
    stature, height = _pick(rng, (("short", 0.93), ("average", 1.0), ("tall", 1.06)))
    build, width = _pick(rng, (("slim", 0.86), ("average", 1.0), ("broad", 1.2)))
    return Person(
        pid=pid,
        sex="woman" if woman else "man",
        beard=not woman and rng.random() < 0.3,
        stature=stature,
        height=height + rng.uniform(-0.015, 0.015),
        build=build,
        width=width + rng.uniform(-0.04, 0.04),
        skin=_tint(rng, SKIN, _pick(rng, tuple(SKIN))),
        hair=_tint(rng, HAIR, _pick(rng, tuple(HAIR))),
        hair_length=_pick(rng, HAIR_LENGTHS, (0.15, 0.35, 0.5) if woman else (0.75, 0.17, 0.08)),
        upper=_tint(rng, PALETTE, upper),
        second=_tint(rng, PALETTE, _pick(rng, _contrasting(upper))),
        pattern=pattern,
        sleeves=_pick(rng, SLEEVES, (0.5, 0.38, 0.12)),
        jacket=_tint(rng, PALETTE, _pick(rng, JACKETS)) if rng.random() < 0.22 else None,
        lower_kind=lower_kind,
        lower=_tint(rng, PALETTE, lower),
        shoes=_tint(rng, PALETTE, _pick(rng, ("black", "white", "brown", "grey", "red", "light blue"))),
        bag=_item(rng, ("backpack", "shoulder bag", "handbag"), 0.65),
        hat=_item(rng, ("cap", "beanie"), 0.35),
    )


@lru_cache(maxsize=8)
def _outfit_order(seed: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([_OUTFITS, seed]).permutation(len(OUTFITS)).tolist())


def _contrasting(name: str) -> tuple[str, ...]:
    """The colours of the palette that differ enough from `name` for a pattern of both to be visible."""
    own = np.array(PALETTE[name])
    return tuple(other for other, rgb in PALETTE.items() if np.linalg.norm(own - rgb) > 130)


def _pick(rng: np.random.Generator, options: tuple[T, ...], odds: tuple[float, ...] | None = None) -> T:
    return options[int(rng.choice(len(options), p=odds))]


def _tint(rng: np.random.Generator, colours: dict[str, RGB], name: str) -> Tint:
    shade = np.array(colours[name]) * np.exp(rng.normal(0, 0.1)) + rng.normal(0, 8, 3)
    red, green, blue = np.clip(np.rint(shade), 0, 255).astype(int).tolist()
    return Tint(name, (red, green, blue))


def _item(rng: np.random.Generator, kinds: tuple[str, ...], odds: float) -> Item | None:
    worn = rng.random() < odds
    item = Item(_pick(rng, kinds), _tint(rng, PALETTE, _pick(rng, tuple(PALETTE))))
    return item if worn else None

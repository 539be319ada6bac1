"""Texts about a person: a full description in English, or a random caption with attributes left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from svllreid.rendered.attributes import Person

# The probability that a caption names each attribute.
NAMED = {"figure": 0.4, "hair": 0.5, "upper": 0.95, "lower": 0.88, "shoes": 0.5, "bag": 0.85, "hat": 0.85}
ALONE = 0.12  # probability that a caption names one garment, bag or hat and nothing else
OPENINGS = ("", "", "A photo of ", "a photo of ", "a picture of ", "an image of ", "a crop of ")
SLEEVES = {"long": "long sleeves", "short": "short sleeves", "none": "no sleeves"}
SHIRTS = {"long": ("shirt", "jumper", "top"), "short": ("shirt", "t-shirt", "top"), "none": ("shirt", "vest", "top")}


def describe_person(person: Person) -> str:
    """The full description of a person in one line of English.

    Example: `a tall woman with long brown hair, in a red and white striped shirt with long sleeves, dark blue trousers
    and white shoes, carrying a black backpack, wearing a grey cap`.
    """
    figure = [word for word in (person.stature, person.build) if word != "average"]
    text = f"{with_article(' '.join((', '.join(figure), person.sex)).strip())} with {_hair(person)}, in "
    joint = "and" if person.pattern == "dots" else "with"
    shirt = with_article(_shirt(person, "shirt"))
    if person.jacket is not None:
        text += f"{with_article(person.jacket.name)} jacket over {shirt}, "
    else:
        text += f"{shirt} {joint} {SLEEVES[person.sleeves]}, "
    text += f"{_lower(person)} and {person.shoes.name} shoes"
    if person.bag is not None:
        text += f", carrying {with_article(f'{person.bag.tint.name} {person.bag.kind}')}"
    if person.hat is not None:
        text += f", wearing {with_article(f'{person.hat.tint.name} {person.hat.kind}')}"
    return text


def caption(person: Person, rng: np.random.Generator) -> str:
    """A random caption of a person, in one of many wordings, with attributes left out at random.

    Example: `A photo of a woman in a red striped top and dark blue trousers with a black backpack`.
    """
    parts = {"upper": _worn_above(person, rng), "lower": _lower(person), "shoes": f"{person.shoes.name} shoes"}
    if person.hat is not None:
        parts["hat"] = with_article(f"{person.hat.tint.name} {person.hat.kind}")
    if person.bag is not None:
        parts["bag"] = with_article(f"{person.bag.tint.name} {person.bag.kind}")
    if rng.random() < ALONE:
        kept = {_any(rng, tuple(parts))}
        figure = hair = False
    else:
        kept = {name for name in parts if rng.random() < NAMED[name]} or {"upper"}
        figure, hair = rng.random() < NAMED["figure"], rng.random() < NAMED["hair"]
    text = _any(rng, OPENINGS) + with_article(_figure(person, rng, figure))
    if hair:
        text += f" with {_hair(person)}"
    worn = [parts[name] for name in ("upper", "lower", "shoes", "hat") if name in kept and name in parts]
    if worn:
        text += f"{_any(rng, ('', ',')) if hair else ''} {_any(rng, ('in', 'wearing', 'dressed in'))} {_list(worn)}"
    if "bag" in kept:
        text += f"{_any(rng, ('', ','))} {_any(rng, ('carrying', 'with'))} {parts['bag']}"
    return text + _any(rng, ("", "."))


def _figure(person: Person, rng: np.random.Generator, named: bool) -> str:
    words = [word for word in (person.stature, person.build) if word != "average"] if named else []
    return " ".join((*words, _any(rng, (person.sex, "person", "person", "pedestrian"))))


def _hair(person: Person) -> str:
    return f"{person.hair_length} {person.hair.name} hair"


def _worn_above(person: Person, rng: np.random.Generator) -> str:
    noun = _any(rng, SHIRTS[person.sleeves]) if person.jacket is None else _any(rng, ("shirt", "top"))
    shirt = with_article(_shirt(person, noun, rng))
    if person.jacket is not None:
        return f"{with_article(person.jacket.name)} jacket over {shirt}"
    if rng.random() < 0.3:
        return f"{shirt} with {SLEEVES[person.sleeves]}"
    return shirt


def _shirt(person: Person, noun: str, rng: np.random.Generator | None = None) -> str:
    """The upper garment in words; with a generator, second colour or pattern are left out at random."""
    first, second = person.upper.name, person.second.name
    word = {"plain": "", "stripes": "striped ", "checks": "checked ", "dots": "dotted ", "two-tone": "two-tone "}
    draw = 1.0 if rng is None else rng.random()
    if person.pattern == "plain" or draw < 0.15:
        return f"{first} {noun}"
    if draw < 0.4:
        return f"{first} {word[person.pattern]}{noun}"
    if person.pattern == "dots":
        return f"{first} {noun} with {second} dots"
    if person.pattern == "two-tone":
        return f"half {first}, half {second} {noun}"
    return f"{first} and {second} {word[person.pattern]}{noun}"


def _lower(person: Person) -> str:
    text = f"{person.lower.name} {person.lower_kind}"
    return with_article(text) if person.lower_kind == "skirt" else text


def _list(parts: Sequence[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]


def _any(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def with_article(text: str) -> str:
    """A noun with its article.

    >>> with_article("orange shirt")
    'an orange shirt'
    """
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"

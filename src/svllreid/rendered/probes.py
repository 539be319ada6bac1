"""Questions about people that zero-shot classification answers, with a prompt for each answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from svllreid.rendered.attributes import PALETTE, TROUSERS, Person
from svllreid.rendered.description import with_article


@dataclass(frozen=True)
class Question:
    """A question about a person, with its possible answers.

    Args:
        name: what the question is about.
        prompts: a text for each answer.
        answers: the attribute's value that each prompt names, in their order.
        of: returns a person's value; None if the question does not apply to them.
    """

    name: str
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    of: Callable[[Person], str | None]

    def label(self, person: Person) -> int:
        """The index of the right answer; -1 if the question does not apply."""
        value = self.of(person)
        return self.answers.index(value) if value in self.answers else -1


def _question(
    name: str, text: str, answers: tuple[str, ...], of: Callable[[Person], str | None], article: bool = True
) -> Question:
    words = [with_article(answer) if article else answer for answer in answers]
    return Question(name, tuple(text.format(word) for word in words), answers, of)


QUESTIONS = (
    _question("shirt colour", "a person wearing {} shirt", tuple(PALETTE), lambda p: _if(not p.jacket, p.upper.name)),
    _question(
        "trousers colour",
        "a person wearing {} trousers",
        TROUSERS,
        lambda p: _if(p.lower_kind == "trousers", p.lower.name),
        article=False,
    ),
    Question(
        "lower garment",
        ("a person wearing trousers", "a person wearing shorts", "a person wearing a skirt"),
        ("trousers", "shorts", "skirt"),
        lambda p: p.lower_kind,
    ),
    _question(
        "bag",
        "a person carrying {}",
        ("backpack", "shoulder bag", "handbag"),
        lambda p: p.bag.kind if p.bag is not None else None,
    ),
    _question("hat", "a person wearing {}", ("cap", "beanie"), lambda p: p.hat.kind if p.hat is not None else None),
    _question(
        "hair colour",
        "a person with {} hair",
        ("black", "brown", "blond", "red", "grey"),
        lambda p: _if(not p.hat, p.hair.name),
        article=False,
    ),
    _question("sex", "a photo of {}", ("woman", "man"), lambda p: p.sex),
)


def _if(applies: bool, value: str) -> str | None:
    return value if applies else None

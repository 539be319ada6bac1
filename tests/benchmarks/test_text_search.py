"""The benchmark of search by words counts what was counted by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

from svllreid.rendered.attributes import draw_person

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def text_search():
    sys.path.insert(0, str(FOLDER))
    try:
        import text_search

        yield text_search
    finally:
        sys.path.remove(str(FOLDER))


def test_equal_texts_are_one_query_that_all_their_people_fit(text_search):
    people = [draw_person(0, pid) for pid in range(3)]
    texts = {0: "red", 1: "blue", 2: "red"}
    red, blue = text_search.queries(people, np.array([0, 0, 1, 2]), lambda person: texts[person.pid])
    assert (red.text, red.fits.tolist()) == ("red", [True, True, False, True])
    assert (blue.text, blue.fits.tolist()) == ("blue", [False, False, True, False])


def test_recalls_and_chance_by_hand(text_search):
    first = np.zeros(12, bool)
    first[[2, 7]] = True
    last = np.zeros(12, bool)
    last[11] = True
    asked = [text_search.Query("first", first), text_search.Query("last", last)]
    scores = np.array([[1.0] * 2 + [9.0] + [1.0] * 9, [12.0 - n for n in range(12)]])
    assert text_search.recalls(scores, asked) == [0.5, 0.5, 0.5], "the second is found at place 12"
    # 1 - (10 * 9 * 8 * 7 * 6) / (12 * 11 * 10 * 9 * 8) = 15 / 22 of five among twelve
    assert text_search.chance(asked)[:2] == pytest.approx([(2 / 12 + 1 / 12) / 2, (15 / 22 + 5 / 12) / 2])


def test_texts_name_the_clothes(text_search):
    person = draw_person(0, 4)
    upper = f"{person.jacket.name} jacket" if person.jacket else f"{person.upper.name} shirt"
    assert upper in text_search.in_clothes(person) and f"{person.lower.name} {person.lower_kind}" in (
        text_search.in_clothes(person)
    )
    other = text_search.in_other_words(person)
    assert not {"person", "jacket", "shirt", "trousers"} & set(other.split()) and person.lower.name in other

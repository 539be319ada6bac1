"""A rendered crowd: its people, the same images from one process or several, rendering that continues."""

import re

import numpy as np
import pytest

from svllreid.errors import DatasetError
from svllreid.rendered import draw_person
from svllreid.rendered.attributes import PALETTE
from svllreid.rendered.crowd import Crowd, render
from svllreid.rendered.probes import QUESTIONS

CROWD = Crowd(seed=2, sites=3, people=4, images=2, size=(32, 16))


def test_one_process_or_two_render_the_same(tmp_path):
    one, two = render(CROWD, tmp_path / "one"), render(CROWD, tmp_path / "two", workers=2)
    everybody = np.repeat(np.arange(12), 2), np.tile([0, 1], 12)
    images = one.images(*everybody)
    assert images.shape == (24, 32, 16, 3) and images.dtype == np.uint8
    assert (images == two.images(*everybody)).all()
    assert len(np.unique(images.reshape(24, -1), axis=0)) == 24


def test_what_is_there_is_not_rendered_again(tmp_path):
    seen = []
    render(CROWD, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    (tmp_path / "site_0001.npy").unlink()
    times = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    render(CROWD, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[3:] == [(3, 3)]
    assert times == {name: (tmp_path / name).stat().st_mtime_ns for name in times}


def test_crowds_share_nobody_with_each_other_or_with_small_seeds():
    populations = {Crowd(seed, 3, 4, 2, (32, 16)).population(site) for seed in (0, 1) for site in range(3)}
    assert len(populations) == 6 and min(populations) >= 10**6
    assert CROWD.person(6) == draw_person(CROWD.population(1), 2)
    assert CROWD.everybody()[6] == CROWD.person(6) and len(CROWD.everybody()) == len(CROWD) == 12


@pytest.mark.parametrize("changed", [{"seed": -1}, {"sites": 0}, {"people": 0}, {"images": 0}, {"images": 7}])
def test_impossible_crowds_are_refused(changed):
    with pytest.raises(DatasetError, match="images 1 to 6"):
        Crowd(**{"seed": 0, "sites": 1, "people": 1, "images": 1, "size": (32, 16), **changed})


def test_questions_have_the_right_answer():
    people = [draw_person(0, pid) for pid in range(400)]
    shirt, trousers, lower, bag, hat, hair, sex = QUESTIONS
    assert not any(
        re.search(r"\ba [aeio]|\ban [^aeio]", prompt) for question in QUESTIONS for prompt in question.prompts
    )
    assert shirt.prompts[3] == "a person wearing a red shirt" and len(shirt.prompts) == len(PALETTE)
    for person in people:
        assert shirt.label(person) == (-1 if person.jacket else list(PALETTE).index(person.upper.name))
        assert (trousers.label(person) == -1) == (person.lower_kind != "trousers")
        assert lower.answers[lower.label(person)] == person.lower_kind
        assert (bag.label(person) == -1) == (person.bag is None)
        assert hat.label(person) == (-1 if person.hat is None else ("cap", "beanie").index(person.hat.kind))
        assert (hair.label(person) == -1) == (person.hat is not None)
        assert sex.answers[sex.label(person)] == person.sex

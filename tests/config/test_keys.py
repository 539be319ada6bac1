"""What the schema says of a key."""

import pytest

from svllreid.config.keys import is_names, is_section, is_text, key_names, known_keys, may_change, near_keys
from svllreid.config.schema import Stage2


def test_every_key_once_and_in_the_order_of_the_schema():
    names = key_names()
    assert len(set(names)) == len(names) > 60
    assert names[0].startswith("MODEL.") and "OUTPUT_DIR" in names and "SOLVER.STAGE1.BASE_LR" in names
    assert not any(is_section(name) for name in names)
    stage2 = [f"SOLVER.STAGE2.{name.upper()}" for name in Stage2.model_fields]
    assert [name for name in names if name.startswith("SOLVER.STAGE2.")] == stage2


def test_keys_of_one_section_with_its_place():
    keys = dict(known_keys(Stage2, "SOLVER.STAGE2."))
    assert keys["SOLVER.STAGE2.MAX_EPOCHS"] is Stage2.model_fields["max_epochs"]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("MODEL", {is_section}),
        ("SOLVER.STAGE1", {is_section}),
        ("OUTPUT_DIR", {is_text}),
        ("model.pretrained", {is_text}),
        ("DATASETS.NAMES", {is_names}),
        ("MODEL.STRIDE_SIZE", set()),
        ("SOLVER.SEED", set()),
        ("NOTHING", set()),
        ("MODEL.NOTHING", set()),
        ("OUTPUT_DIR.NAME", set()),
        ("", set()),
    ],
)
def test_kinds_of_keys(name, kinds):
    assert {kind for kind in (is_section, is_text, is_names) if kind(name)} == kinds


def test_what_a_continued_run_may_change():
    assert may_change("OUTPUT_DIR") and may_change("TEST.WEIGHT") and may_change("SOLVER.STAGE2.LOG_PERIOD")
    assert not may_change("SOLVER.STAGE2.MAX_EPOCHS") and not may_change("MODEL.NAME")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("MODEL.NAM", ["MODEL.NAME"]),
        ("MODEL.BASE_LR", ["SOLVER.STAGE1.BASE_LR", "SOLVER.STAGE2.BASE_LR"]),
        ("WEIGHT", ["TEST.WEIGHT"]),
        ("QQQQQQ", []),
    ],
)
def test_keys_that_may_have_been_meant(written, meant):
    assert near_keys(written) == meant


def test_other_names_may_have_been_meant_too():
    assert near_keys("--devise", ("--device",)) == ["--device"]

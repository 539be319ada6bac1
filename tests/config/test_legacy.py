"""Faults of published trees, one at a time: what becomes of them, and what the log says."""

import copy

import pytest

from svllreid.config.legacy import REPLACED, UNUSED, fix, is_flat
from svllreid.errors import ConfigError


def tree_of(key, value):
    """A tree that holds one dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def fixed(tree, caplog, one_stage=False):
    """The tree after `fix`, and the lines of its warning without the first."""
    caplog.clear()
    given = copy.deepcopy(tree)
    result = fix(tree, "published.yml", one_stage)
    assert tree == given or one_stage, "the tree that was given stays as it is"
    assert all(record.message.startswith("published.yml: ") for record in caplog.records)
    return result, [line.strip() for record in caplog.records for line in record.message.splitlines()[1:]]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("SOLVER.STAGE2.BASE_LR", "5e-6", 5e-6),
        ("SOLVER.STAGE2.BASE_LR", "+1.E-3", 1e-3),
        ("DATASETS.NAMES", "('dukemtmc')", "dukemtmc"),
        ("DATASETS.NAMES", "(market1501, msmt17)", ["market1501", "msmt17"]),
        ("SOLVER.STAGE2.STEPS", "(30, 50)", [30, 50]),
        ("INPUT.PIXEL_MEAN", "(0.5, 0.5, 0.5)", [0.5, 0.5, 0.5]),
    ],
)
def test_values_that_yaml_reads_as_text(key, value, expected, caplog):
    tree, faults = fixed(tree_of(key, value), caplog)
    assert tree == tree_of(key, expected)
    assert len(faults) == 1 and key in faults[0] and repr(value) in faults[0] and repr(expected) in faults[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OUTPUT_DIR", "1e5"),
        ("OUTPUT_DIR", "(a)"),
        ("DATASETS.NAMES", "1e5"),
        ("DATASETS.NAMES", "folder:/data (new)"),
        ("SOLVER.STAGE2.BASE_LR", 5e-6),
        ("SOLVER.STAGE2.BASE_LR", "0x10"),
    ],
)
def test_values_that_are_meant_as_they_are_written(key, value, caplog):
    assert fixed(tree_of(key, value), caplog) == (tree_of(key, value), [])


def test_a_section_without_keys_has_its_defaults(caplog):
    tree, faults = fixed({"TEST": None, "SOLVER": {"STAGE1": None, "SEED": 7}}, caplog)
    assert tree == {"SOLVER": {"SEED": 7}}
    assert [fault.split()[0] for fault in faults] == ["TEST", "SOLVER.STAGE1"]


@pytest.mark.parametrize("key", ["MODEL", "SOLVER.STAGE2"])
def test_a_section_is_no_value(key):
    with pytest.raises(ConfigError, match=rf"{key} is a section of keys, not 'tiny'; set one of its keys"):
        fix(tree_of(key, "tiny"), "published.yml", one_stage=False)


@pytest.mark.parametrize("key", UNUSED)
def test_keys_without_a_use_are_dropped_where_they_change_nothing_and_refused_elsewhere(key, caplog):
    for off in UNUSED[key]:
        section = tree_of(key, off)
        tree, faults = fixed(section, caplog)
        assert faults == [] and key.rpartition(".")[2] not in str(tree)
    with pytest.raises(ConfigError, match=rf"{key}: 'other' is not supported; remove the key, or set it to"):
        fix(tree_of(key, "other"), "published.yml", one_stage=False)


@pytest.mark.parametrize("key", REPLACED)
def test_keys_that_are_options_now(key, caplog):
    tree, faults = fixed(tree_of(key, "cuda"), caplog)
    assert tree == {"MODEL": {}} and len(faults) == 1 and REPLACED[key] in faults[0]


@pytest.mark.parametrize(
    ("tree", "flat"),
    [
        ({"SOLVER": {"BASE_LR": 0.1}}, True),
        ({"SOLVER": {"BASE_LR": 0.1, "STAGE1": {}}}, False),
        ({"SOLVER": {"SEED": 1}}, False),
        ({"SOLVER": None}, False),
        ({}, False),
    ],
)
def test_a_flat_solver_is_known_by_its_keys(tree, flat):
    assert is_flat(tree) is flat


def test_a_flat_solver_becomes_stage_2_without_text(caplog):
    tree = {"SOLVER": {"BASE_LR": 0.1, "SEED": 3, "STAGE2": {"MAX_EPOCHS": 7}}}
    result, faults = fixed(tree, caplog, one_stage=True)
    assert result == {
        "SOLVER": {"SEED": 3, "STAGE2": {"BASE_LR": 0.1, "MAX_EPOCHS": 7}},
        "MODEL": {"USE_TEXT": False},
    }
    assert len(faults) == 1 and "SOLVER.STAGE2" in faults[0] and "MODEL.USE_TEXT" in faults[0]


@pytest.mark.parametrize(
    ("model", "switched_on"),
    [
        ({"USE_SSL": True}, True),
        ({"USE_SSL": False}, True),
        ({}, False),
        ({"USE_SSL": True, "USE_SSL_STAGE1": False}, False),
    ],
)
def test_self_supervision_of_stage_1_had_its_switch_in_the_source(model, switched_on, caplog):
    tree, faults = fixed({"MODEL": model, "SOLVER": {"STAGE1": {"SSL_LOSS_WEIGHT": 1.0}}}, caplog)
    assert tree["MODEL"].get("USE_SSL_STAGE1", False) is switched_on
    assert len(faults) == switched_on

"""YAML of users: nothing is lost without a word, text stays as it is written, and what is written can be read."""

import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.config import Config, dump_tree, load_config
from svllreid.config.yaml_file import read_tree
from svllreid.errors import ConfigError


def fault_of(text):
    with pytest.raises(ConfigError) as error:
        read_tree(text, "mine.yml")
    return str(error.value)


def test_a_key_given_twice_is_refused_with_both_lines():
    text = "MODEL:\n  NAME: tiny\nSOLVER: {SEED: 1}\nMODEL:\n  STRIDE_SIZE: [12, 12]\n"
    assert "mine.yml: MODEL is given twice, in lines 1 and 4" in fault_of(text)


def test_every_key_given_twice_is_named_at_any_depth_and_in_either_case():
    text = """\
SOLVER:
  STAGE1:
    BASE_LR: 1
    base_lr: 2
  STAGE2: {GAMMA: 1, STEPS: [3],
    GAMMA: 2}
TEST:
  FLIP: true
test:
  FLIP: true
TEST: {}
"""
    fault = fault_of(text)
    assert "SOLVER.STAGE1.BASE_LR is given twice, in lines 3 and 4" in fault
    assert "SOLVER.STAGE2.GAMMA is given twice, in lines 5 and 6" in fault
    assert "TEST is given 3 times, in lines 7, 9 and 11" in fault
    assert len(fault.splitlines()) == 3


def test_merged_keys_may_be_overridden_but_not_given_twice():
    stage1 = "  STAGE1: &first\n    BASE_LR: 0.5\n    WEIGHT_DECAY: 0.25\n"
    start = f"SOLVER:\n{stage1}  STAGE2:\n    <<: *first\n    BASE_LR: 2.0\n"
    stage2 = read_tree(start, "mine.yml")["SOLVER"]["STAGE2"]
    assert stage2 == {"BASE_LR": 2.0, "WEIGHT_DECAY": 0.25}
    assert "SOLVER.STAGE2.BASE_LR is given twice, in lines 7 and 8" in fault_of(start + "    BASE_LR: 3.0\n")
    assert "<< of SOLVER.STAGE2 is given twice, in lines 6 and 8" in fault_of(start + "    <<: *first\n")


@pytest.mark.parametrize("word", ["007", "2024_01_05", "2024-01-05", "2024-99-99", "1e5", "no", "0x1F", "1:30", "12"])
def test_text_keys_of_a_file_hold_what_is_written(word, tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text(f"OUTPUT_DIR: {word}\nDATASETS:\n  ROOT_DIR: {word}\n  NAMES: {word}\n  TEST: [{word}, b]\n")
    config = load_config(file)
    assert (config.output_dir, config.datasets.root_dir, config.datasets.names) == (word, word, word)
    assert config.datasets.test == (word, "b")


def test_null_stays_null_under_text_keys():
    assert read_tree("MODEL: {PRETRAINED: ~}\nTEST: {WEIGHT: }\n", "x") == {
        "MODEL": {"PRETRAINED": None},
        "TEST": {"WEIGHT": None},
    }


def test_files_of_other_encodings():
    assert read_tree("OUTPUT_DIR: Größe\n".encode("utf-16"), "x") == {"OUTPUT_DIR": "Größe"}
    assert read_tree("\ufeffOUTPUT_DIR: Größe\n".encode(), "x") == {"OUTPUT_DIR": "Größe"}
    assert "cannot be read as YAML" in fault_of("OUTPUT_DIR: Größe\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DATASETS:\n  ROOT_DIR: folder:/data/a: b\n", "needs quotes"),
        ("MODEL: [", "cannot be read as YAML"),
        ("MODEL: !!int x", "cannot be read as YAML"),
        ("MODEL: !!bool x", "cannot be read as YAML"),
        ("MODEL: !!timestamp x", "cannot be read as YAML"),
        ("MODEL: !!python/object:os.system x", "cannot be read as YAML"),
        ("MODEL: *nowhere", "cannot be read as YAML"),
        ("MODEL: \x00", "cannot be read as YAML"),
        ("MODEL: " + "[" * 400, "cannot be read as YAML"),
        ("? [a, b]\n: 1\n", "line 1: a key is a word"),
        ("MODEL: &m\n  NAME: *m\n", "MODEL.NAME refers to the anchor of line 1, which contains it"),
        ("- a\n- b\n", "holds a list"),
        ("&a [*a]", "holds a list"),
        ("tiny", "holds a str"),
    ],
)
def test_what_is_no_tree_of_keys(text, words):
    assert words in fault_of(text)


def test_anchors_that_unfold_without_end_are_refused():
    text = "A: &a0 {X: 1}\n" + "".join(
        f"B{n}: &a{n} {{{', '.join(f'K{k}: *a{n - 1}' for k in range(9))}}}\n" for n in range(1, 12)
    )
    assert "unfold to" in fault_of(text)


def test_numbers_as_keys_are_unknown_keys(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text("SOLVER: {1: 2}\non: 3\n")
    with pytest.raises(ConfigError, match=r"(?s)unknown key SOLVER\.1.*unknown key ON"):
        load_config(file)


WRITTEN = [
    "Größe/人 é😀",
    "a: b #c",
    "Gr\udcf6\udcdf",
    "- x",
    "",
    "  blank ",
    "'quoted\"",
    "long " * 60,
    "007",
    "\t",
    "a\x85b\u2028c\u2029",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_text_survives_a_file_and_stays_readable(text, tmp_path):
    config = load_config(overrides={"OUTPUT_DIR": text, "DATASETS.NAMES": text, "DATASETS.TEST": [text, "b"]})
    file = tmp_path / "config.yml"
    file.write_text(dump_tree(config.to_yaml_tree()), encoding="utf-8")
    assert load_config(file) == config
    assert (text in file.read_text(encoding="utf-8")) or not text.isalpha()


def test_text_of_any_language_is_readable():
    assert "OUTPUT_DIR: Größe 人\n" in dump_tree(load_config(overrides={"OUTPUT_DIR": "Größe 人"}).to_yaml_tree())


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from([*Config.model_fields, "NAMES", "NAME", "STAGE1", "model", "WEIGHT", "x"])
TREES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4), max_leaves=12
)


@settings(max_examples=150, deadline=None)
@given(tree=TREES, noise=st.text(string.printable, max_size=3), at=st.integers(0, 200))
def test_any_file_loads_or_is_refused_in_words(tree, noise, at, tmp_path_factory):
    text = yaml.safe_dump(tree)
    file = tmp_path_factory.getbasetemp() / "any.yml"
    file.write_text(text[:at] + noise + text[at:], encoding="utf-8")
    try:
        load_config(file)
    except ConfigError as error:
        assert str(file) in str(error) or "section of keys" in str(error) or "not supported" in str(error)

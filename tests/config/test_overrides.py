"""Keys and values as words of the command line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.config import known_keys, load_config
from svllreid.config.keys import is_names, is_text
from svllreid.errors import ConfigError

TEXT_KEYS = [key for key, _ in known_keys() if is_text(key)]
NAME_KEYS = [key for key, _ in known_keys() if is_names(key)]
AWKWARD = [
    "folder:/data/run #3", "folder:/data/a: b", "#1", "a #", "007", "1e5", "2024-01-05", "no", "~", "null", "{a: b}",
    "- x", "&a", "*a", "!x", "%", "@x", "`x", "'x", '"x', "x, y", "a=b", "C:\\data", "Größe", "gr\udcf6", "output_dir",
]  # fmt: skip


def value_of(config, key):
    for part in key.lower().split("."):
        config = getattr(config, part)
    return config


def test_both_kinds_of_text_keys_are_there():
    assert NAME_KEYS == ["DATASETS.NAMES", "DATASETS.TEST"]
    assert {"OUTPUT_DIR", "DATASETS.ROOT_DIR", "MODEL.PRETRAINED", "TEST.WEIGHT", "SOLVER.WANDB"} <= set(TEXT_KEYS)


@pytest.mark.parametrize("key", [*TEXT_KEYS, *NAME_KEYS])
def test_text_arrives_as_it_is_written(key):
    for word in AWKWARD:
        assert value_of(load_config(overrides=[key, word]), key) == word
        assert value_of(load_config(overrides=[f"{key}={word}"]), key) == word


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("[market1501, msmt17]", ("market1501", "msmt17")),
        ('[market1501, "folder:/x #1"]', ("market1501", "folder:/x #1")),
        ("[market1501, folder:/x #1, folder:/a: b]", ("market1501", "folder:/x #1", "folder:/a: b")),
        ("['folder:/it''s, here' ,\"folder:\\u00e4\"]", ("folder:/it's, here", "folder:ä")),
        ("['market1501', 007, 1e5, no]", ("market1501", "007", "1e5", "no")),
        (" [ veri ,] ", ("veri",)),
        ("[]", ()),
        ("[a,,b]", ("a", "", "b")),
        ('[", \', "\\q"]', ('"', "'", '"\\q"')),
        ("('market1501', 'folder:/x #1')", ("market1501", "folder:/x #1")),
        ("('dukemtmc')", "dukemtmc"),
    ],
)
def test_lists_of_names(word, names):
    config = load_config(overrides=["DATASETS.NAMES", word, f"DATASETS.TEST={word}"])
    assert config.datasets.names == names and config.datasets.test == names


@pytest.mark.parametrize(
    "words",
    [
        ["MODEL.SIE_COE", "2.0"],
        ["MODEL.SIE_COE=2.0"],
        ["MODEL.SIE_COE", "=", "2.0"],
        ["MODEL.SIE_COE", "=2.0"],
        ["MODEL.SIE_COE=", "2.0"],
        ["model.sie_coe", 2.0],
    ],
)
def test_ways_to_write_a_pair(words):
    config = load_config(overrides=[*words, "OUTPUT_DIR", "x"])
    assert (config.model.sie_coe, config.output_dir) == (2.0, "x")


def test_an_empty_value():
    for words in (
        ["OUTPUT_DIR=", "SOLVER.SEED", "3"],
        ["OUTPUT_DIR", "", "SOLVER.SEED", "3"],
        ["SOLVER.SEED=3", "OUTPUT_DIR="],
    ):
        config = load_config(overrides=words)
        assert (config.output_dir, config.solver.seed) == ("", 3)


def test_a_value_spelled_like_a_key():
    assert load_config(overrides=["OUTPUT_DIR", "output_dir"]).output_dir == "output_dir"
    assert load_config(overrides=["OUTPUT_DIR=OUTPUT_DIR"]).output_dir == "OUTPUT_DIR"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MODEL.USE_SSL", "MODEL.USE_TEXT", "True"], "has no value: the word after it, MODEL.USE_TEXT, is"),
        (["DATASETS.NAMES", "OUTPUT_DIR", "out"], "DATASETS.NAMES has no value: the word after it, OUTPUT_DIR, is"),
        (["MODEL.USE_SSL", "solver.seed=3"], "MODEL.USE_SSL has no value: the word after it, solver.seed=3, is a key"),
        (["DATASETS.NAMES", "veri", "OUTPUT_DIR"], "OUTPUT_DIR has no value; write OUTPUT_DIR VALUE or OUT"),
        (["OUTPUT_DIR", "="], "OUTPUT_DIR has no value"),
        (["OUTPUT_DIR", "=", "MODEL.NAME", "tiny"], "OUTPUT_DIR has no value: the word after it, MODEL.NAME,"),
        (["MODEL.NAME", "tiny", "True"], "'True' stands after MODEL.NAME tiny where a key such as"),
        (["DATASETS.ROOT_DIR", "my", "data"], "'data' stands after DATASETS.ROOT_DIR my where"),
        (["market1501"], "'market1501' stands where a key"),
        (["person/vit_svllreid.yml"], "'person/vit_svllreid.yml' stands where a key .* as --config-file FILE"),
        (["MODEL.NAME", "tiny", "tiny_10.pth"], "'tiny_10.pth' stands after MODEL.NAME tiny .* as TEST.WEIGHT FILE"),
        (["0.5", "MODEL.NAME"], "'0.5' stands where a key"),
        ([3, "MODEL.NAME"], "3 stands where a key"),
        (["MODEL_NAME", "tiny"], r"unknown key MODEL_NAME; did you mean MODEL\.NAME"),
        (["NAME", "tiny"], r"unknown key NAME; did you mean MODEL\.NAME"),
        ("MODEL.NAME tiny", r"one text; give a list of words, such as \['MODEL.NAME', 'tiny'\]"),
    ],
)  # fmt: skip
def test_words_out_of_step_are_named(words, message):
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=words)


def test_what_is_refused_is_shown_as_it_was_written():
    with pytest.raises(ConfigError, match="PROMPT_AUG_METHOD: 'mask #x' is not one of"):
        load_config(overrides=["SOLVER.STAGE1.PROMPT_AUG_METHOD", "mask #x"])
    with pytest.raises(ConfigError, match=r"^overrides: DATASETS\.NAMES: \['a', \{'b': 1\}\]|DATASETS\.NAMES: "):
        load_config(overrides={"DATASETS.NAMES": ["a", {"b": 1}]})


def test_a_bare_32_is_a_precision(tmp_path):
    assert load_config(overrides=["SOLVER.PRECISION", "32"]).solver.precision == "32"
    (tmp_path / "mine.yml").write_text("SOLVER: {PRECISION: 32}\n")
    assert load_config(tmp_path / "mine.yml").solver.precision == "32"


WORDS = (
    st.sampled_from([key for key, _ in known_keys()])
    | st.text(max_size=10)
    | st.sampled_from([*AWKWARD, "=", "[", "2"])
)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=6))
def test_any_words_are_taken_or_refused_in_words(words):
    try:
        load_config(overrides=words)
    except ConfigError as error:
        assert str(error)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["DATASETS.NAMES", "MODEL", "SOLVER.STAGE1", "x", ""]),
        st.none() | st.integers() | st.lists(st.text(max_size=2)) | st.text(max_size=3),
    )
)
def test_any_mapping_is_taken_or_refused_in_words(mapping):
    try:
        load_config(overrides=mapping)
    except ConfigError as error:
        assert str(error)

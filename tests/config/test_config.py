"""Shipped and published configurations, and what users get wrong."""

import json
from pathlib import Path

import pytest
import yaml

import svllreid
from svllreid.config import Config, from_tree, known_keys, load_config, may_change
from svllreid.config.fields import Derived
from svllreid.config.keys import is_text
from svllreid.config.legacy import UNUSED
from svllreid.errors import ConfigError

PUBLISHED = json.loads((Path(__file__).parent / "published_settings.json").read_text())
CONFIGS = Path(svllreid.__file__).parent / "configs"
SHIPPED = sorted(CONFIGS.rglob("*.yml"))
# The recorder filled these in with its own values.
RECORDERS_OWN = ("DATASETS.NAMES", "DATASETS.ROOT_DIR")


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def value_of(config, key):
    for part in key.lower().split("."):
        config = getattr(config, part)
    return list(config) if isinstance(config, tuple) else config


def place(key, resolved):
    """Where a published key lives: a flat SOLVER is the one-stage baseline's stage 2."""
    head, _, last = key.rpartition(".")
    flat = head == "SOLVER" and last not in ("MARGIN", "SEED") and "STAGE1" not in resolved["SOLVER"]
    return f"SOLVER.STAGE2.{last}" if flat else key


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_trees_resolve_to_the_published_values(name, tmp_path):
    file = tmp_path / "published.yml"
    file.write_text(yaml.safe_dump(PUBLISHED[name]["as_parsed"]))
    config = load_config(file)
    resolved = PUBLISHED[name]["resolved"]
    compared = 0
    for key, expected in leaves(resolved):
        key = place(key, resolved)
        if key in RECORDERS_OWN:
            continue
        if key in UNUSED:
            assert expected in UNUSED[key]
            continue
        assert value_of(config, key) == expected, key
        compared += 1
    assert compared > 30
    assert config.model.use_text == ("STAGE1" in resolved["SOLVER"])


def test_published_dataset_names_lose_their_brackets(tmp_path):
    assert load_config(overrides=["DATASETS.NAMES", "('dukemtmc')"]).datasets.names == "dukemtmc"
    file = tmp_path / "duke.yml"
    file.write_text("DATASETS:\n  NAMES: ('dukemtmc')\n")
    assert load_config(file).datasets.names == "dukemtmc"
    assert load_config(overrides={"DATASETS.NAMES": "('market1501', 'msmt17')"}).datasets.names == (
        "market1501",
        "msmt17",
    )


SAME_SETTINGS = {
    "person/vit_svllreid": "SVLL-ReID: configs/person/vit_svllreid.yml",
    "person/vit_clipreid": "CLIP-ReID: configs/person/vit_clipreid.yml",
    "person/vit_base": "SVLL-ReID: configs/person/vit_base.yml",
    "person/rn50_clipreid": "CLIP-ReID: configs/person/cnn_clipreid.yml",
    "person/rn50_base": "CLIP-ReID: configs/person/cnn_base.yml",
    "veri/vit_svllreid": "SVLL-ReID: configs/veri/vit_svllreid.yml",
    "veri/vit_clipreid": "CLIP-ReID: configs/veri/vit_prom.yml",
    "veri/vit_base": "SVLL-ReID: configs/veri/vit_base.yml",
    "veri/rn50_clipreid": "CLIP-ReID: configs/veri/cnn_prom.yml",
    "veri/rn50_base": "CLIP-ReID: configs/veri/cnn_base.yml",
    "VehicleID/vit_svllreid": "SVLL-ReID: configs/VehicleID/vit_svllreid.yml",
    "VehicleID/vit_clipreid": "CLIP-ReID: configs/VehicleID/vit_clipreid.yml",
    "VehicleID/vit_base": "SVLL-ReID: configs/VehicleID/vit_base.yml",
    "VehicleID/rn50_clipreid": "CLIP-ReID: configs/VehicleID/cnn_clipreid.yml",
    "VehicleID/rn50_base": "CLIP-ReID: configs/VehicleID/cnn_base.yml",
}


@pytest.mark.parametrize("shipped", SAME_SETTINGS)
def test_shipped_configurations_hold_the_published_settings(shipped):
    ours = load_config(f"{shipped}.yml").to_yaml_tree()
    theirs = from_tree(json.loads(json.dumps(PUBLISHED[SAME_SETTINGS[shipped]]["as_parsed"]))).to_yaml_tree()
    for tree in (ours, theirs):  # data and paths are the user's
        tree.pop("DATASETS"), tree.pop("OUTPUT_DIR")
        tree["TEST"].pop("WEIGHT")
    if shipped == "VehicleID/vit_svllreid":
        assert (theirs["MODEL"]["SIE_CAMERA"], ours["MODEL"]["SIE_CAMERA"]) == (True, False)
        assert (theirs["MODEL"]["SIE_VIEW"], ours["MODEL"]["SIE_VIEW"]) == (True, False)
        theirs["MODEL"] |= {"SIE_CAMERA": False, "SIE_VIEW": False}
    if not ours["MODEL"]["USE_TEXT"]:
        ours["SOLVER"].pop("STAGE1"), theirs["SOLVER"].pop("STAGE1")
    assert ours == theirs


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.relative_to(CONFIGS).as_posix())
def test_every_shipped_file_loads_and_survives_saving(file, tmp_path, caplog):
    config = load_config(file)
    assert not caplog.records, "a shipped file needs no fixing"
    saved = tmp_path / "config.yml"
    saved.write_text(yaml.safe_dump(config.to_yaml_tree()))
    assert load_config(saved) == config


def test_shipped_set_is_complete():
    names = {file.relative_to(CONFIGS).with_suffix("").as_posix() for file in SHIPPED}
    kinds = ("svllreid", "clipreid", "base")
    wanted = {f"{f}/{b}_{k}" for f in ("person", "veri", "VehicleID") for b in ("vit", "rn50") for k in kinds}
    assert wanted <= names


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["MODEL.NAM", "tiny"], ["unknown key MODEL.NAM", "MODEL.NAME"]),
        (["SOLVER.STAGE1.PROMPT_AUG_METHOD", "mak"], ["'mak'", "mask, swap, mix", "did you mean mask"]),
        (["MODEL.SIE_COE", "much"], ["MODEL.SIE_COE", "'much'", "number"]),
        (["SOLVER.STAGE2.MAX_EPOCHS", "2.5"], ["SOLVER.STAGE2.MAX_EPOCHS", "2.5", "integer"]),
        (["SOLVER.STAGE2.MAX_EPOCHS", "0"], ["SOLVER.STAGE2.MAX_EPOCHS", "greater than 0"]),
        (["MODEL.USE_SSL", "perhaps"], ["MODEL.USE_SSL", "'perhaps'"]),
        (["MODEL.IF_WITH_CENTER", "yes"], ["MODEL.IF_WITH_CENTER", "not supported"]),
        (["MODEL", "tiny"], ["MODEL is a section"]),
        (["MODEL.NAME"], ["MODEL.NAME has no value"]),
        (["--what", "x"], ["'--what'", "KEY=VALUE"]),
        (["SOLVER.STAGE1.MAX_EPOCHS=1", "SOLVER.MAX_EPOCHS=1"], ["unknown key", "SOLVER.STAGE2.MAX_EPOCHS"]),
        (["INPUT.SIZE_TRAIN", "[256]"], ["INPUT.SIZE_TRAIN"]),
    ],
)
def test_faults_are_explained(overrides, words):
    with pytest.raises(ConfigError) as error:
        load_config(overrides=overrides)
    for word in words:
        assert word in str(error.value)


def test_all_faults_at_once():
    with pytest.raises(ConfigError) as error:
        load_config(overrides=["MODEL.NAM=x", "MODEL.SIE_COE=y"])
    assert "MODEL.NAM;" in str(error.value) and "MODEL.SIE_COE" in str(error.value)


def test_missing_file_names_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"no configuration file .*nothing.yml.*person/vit_svllreid.yml"):
        load_config("configs/person/nothing.yml")


def test_published_paths_name_the_shipped_files_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = load_config("person/tiny_svllreid.yml")
    assert (
        load_config("configs/person/tiny_svllreid.yml") == load_config("./configs/person/tiny_svllreid.yml") == shipped
    )
    own = tmp_path / "configs" / "person" / "tiny_svllreid.yml"
    own.parent.mkdir(parents=True)
    own.write_text("SOLVER: {SEED: 7}\n")
    assert load_config("configs/person/tiny_svllreid.yml").solver.seed == 7, "a file that is there comes first"


@pytest.mark.parametrize("name", ["x" * 300 + ".yml", "\0.yml"])
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config(name)


def test_unreadable_yaml(tmp_path):
    file = tmp_path / "broken.yml"
    file.write_text("MODEL: [")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_config(file)
    file.write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match="holds a list"):
        load_config(file)


def test_values_of_the_command_line():
    config = load_config(overrides=["MODEL.IF_LABELSMOOTH", "off", "SOLVER.STAGE2.BASE_LR=1e-4", "OUTPUT_DIR", "2026"])
    assert config.model.if_labelsmooth == "off"
    assert config.solver.stage2.base_lr == 1e-4
    assert config.output_dir == "2026"


def test_paths_and_names_stay_as_they_are_written():
    for word in ("1e5", "2024_01_05", "2024-01-05", "007", "out/run #2", "(a)"):
        assert load_config(overrides=["OUTPUT_DIR", word, "DATASETS.ROOT_DIR", word]).output_dir == word


def test_noun_follows_the_dataset():
    nouns = {
        "veri": "vehicle",
        "market1501": "person",
        "[veri, VehicleID]": "vehicle",
        "[market1501, folder]": "person",
    }
    mixed = {"[veri, market1501]": "", "[folder:/a, VehicleID:/b]": ""}  # the user has to choose
    for names, noun in (nouns | mixed).items():
        assert load_config(overrides=["DATASETS.NAMES", names]).datasets.noun == noun
        assert load_config(overrides=["DATASETS.NAMES", names, "DATASETS.NOUN", "bird"]).datasets.noun == "bird"


def test_a_flat_solver_is_the_baseline_only_in_a_file(tmp_path):
    with pytest.raises(ConfigError, match=r"SOLVER\.BASE_LR.*SOLVER\.STAGE1\.BASE_LR or SOLVER\.STAGE2\.BASE_LR"):
        load_config(overrides=["SOLVER.BASE_LR", "0.1"])
    file = tmp_path / "flat.yml"
    file.write_text("SOLVER: {BASE_LR: 0.1}\n")
    config = load_config(file, ["SOLVER.MAX_EPOCHS", "7"])
    assert (config.model.use_text, config.solver.stage2.base_lr, config.solver.stage2.max_epochs) == (False, 0.1, 7)


def test_tiny_has_small_heads():
    tiny, full = load_config(overrides=["MODEL.NAME=tiny"]).model, load_config().model
    assert (tiny.ssl_hidden_dim, tiny.ssl_out_dim, tiny.pretrained) == (512, 128, "rendered-people")
    assert (full.ssl_hidden_dim, full.ssl_out_dim, full.pretrained) == (4096, 256, "openai")


def derived_keys():
    return [key for key, field in known_keys() if any(isinstance(mark, Derived) for mark in field.metadata)]


def test_derived_defaults_stand_where_nothing_is_given():
    assert set(derived_keys()) == {
        "MODEL.PRETRAINED",
        "MODEL.SSL_HIDDEN_DIM",
        "MODEL.SSL_OUT_DIM",
        "INPUT.RE_MAX_AREA",
        "DATASETS.NOUN",
    }
    plain = load_config()
    nulls = {key: "" if is_text(key) else None for key in derived_keys()}
    assert load_config(overrides=nulls) == plain == from_tree(plain.to_yaml_tree())
    assert not {key for key in derived_keys() if value_of(plain, key) in (None, "")}
    assert plain.input.re_max_area == 1 / 3
    assert load_config(overrides={"MODEL.USE_TEXT": False}).input.re_max_area == 1 / 4


def test_what_is_given_is_not_derived():
    given = {
        "MODEL.PRETRAINED": "random",
        "MODEL.SSL_HIDDEN_DIM": 7,
        "MODEL.SSL_OUT_DIM": 5,
        "INPUT.RE_MAX_AREA": 0.5,
        "DATASETS.NOUN": "bird",
    }
    config = load_config(overrides=given)
    assert {key: value_of(config, key) for key in derived_keys()} == given
    with pytest.raises(ConfigError, match=r"MODEL\.SSL_OUT_DIM: 0: input should be greater than 0"):
        load_config(overrides={"MODEL.SSL_OUT_DIM": 0})


@pytest.mark.parametrize(("key", "only"), [("OPTIMIZER_NAME", "Adam"), ("WARMUP_METHOD", "linear")])
def test_a_key_of_earlier_versions_is_accepted_at_its_only_value(key, only, caplog):
    tree = load_config().to_yaml_tree()
    assert key not in tree["SOLVER"]["STAGE1"]
    tree["SOLVER"]["STAGE1"][key] = only
    assert from_tree(tree) == load_config() and not caplog.records
    with pytest.raises(ConfigError, match=rf"SOLVER\.STAGE1\.{key}: 'other' is not supported; remove .* '{only}'"):
        load_config(overrides={f"SOLVER.STAGE1.{key}": "other"})


def test_every_key_says_what_it_is():
    assert [key for key, field in known_keys() if not field.description] == []
    assert len(list(known_keys(Config))) > 60


def test_keys_that_may_change_while_a_run_is_continued():
    free = {key for key, _ in known_keys() if may_change(key)}
    own = {key for key in free if not key.startswith("TEST.")}
    periods = {"SOLVER.STAGE1.LOG_PERIOD", "SOLVER.STAGE1.CHECKPOINT_PERIOD"}
    periods |= {f"SOLVER.STAGE2.{name}_PERIOD" for name in ("LOG", "CHECKPOINT", "EVAL")}
    assert own == periods | {
        "OUTPUT_DIR",
        "DATASETS.ROOT_DIR",
        "DATASETS.TEST",
        "DATASETS.VERI_VIEWS",
        "DATALOADER.CACHE",
        "DATALOADER.CACHE_DIR",
        "DATALOADER.NUM_WORKERS",
        "MODEL.COMPILE",
        "SOLVER.KEEP_LAST",
        "SOLVER.SAVE_PERIOD",
        "SOLVER.WANDB",
    }
    assert {key for key, _ in known_keys() if key.startswith("TEST.")} <= free


def test_seeds_are_numbers_of_64_bits():
    assert load_config(overrides={"SOLVER.SEED": 2**63 - 1}).solver.seed == 2**63 - 1
    with pytest.raises(ConfigError, match=r"SOLVER\.SEED.*less than 9223372036854775808"):
        load_config(overrides={"SOLVER.SEED": 2**63})

"""What prompts call the images: the reader's noun, DATASETS.NOUN over it, and never one for two kinds unasked."""

import io

import pytest
import torch
from rich.console import Console

from svllreid import build_model, load_config
from svllreid.config import from_tree
from svllreid.errors import ConfigError
from svllreid.jobs.preparing import Options, load_splits, load_test_splits
from svllreid.jobs.training import train
from svllreid.runtime.progress import LiveReport


@pytest.fixture
def mixed(tmp_path):
    """People, vehicles and a table of birds, as empty files: nothing here looks at pixels."""
    names = {
        "Market-1501-v15.09.15": ("bounding_box_train", "query", "bounding_box_test"),
        "VeRi": ("image_train", "image_query", "image_test"),
    }
    for dataset, folders in names.items():
        for folder, camera in zip(folders, (1, 1, 2), strict=True):
            (tmp_path / dataset / folder).mkdir(parents=True)
            (tmp_path / dataset / folder / f"0001_c{camera}_1.jpg").touch()
    (tmp_path / "bird.jpg").touch()
    (tmp_path / "birds.csv").write_text("path,pid,camid,split\nbird.jpg,1,0,train\n")
    return tmp_path


def config(root, *names, **keys):
    overrides = {"DATASETS.NAMES": list(names), "DATASETS.ROOT_DIR": str(root), "MODEL.NAME": "tiny", **keys}
    return load_config(overrides=overrides)


def splits(config):
    return load_splits(config, Options(), LiveReport(Console(file=io.StringIO())))


@pytest.mark.parametrize(
    ("names", "noun"), [(("veri",), "vehicle"), (("market1501",), "person"), (("market1501", "market1501"), "person")]
)
def test_prompts_say_what_the_reader_says(mixed, names, noun):
    own = config(mixed, *names)
    assert splits(own).noun == own.datasets.noun == noun
    assert not any("every prompt" in note for note in splits(own).notes)
    prompts = build_model(own, num_classes=2, clip="random").prompt_learner
    asked = config(mixed, *names, **{"DATASETS.NOUN": noun})
    for name, value in build_model(asked, num_classes=2, clip="random").prompt_learner.state_dict().items():
        assert torch.equal(prompts.state_dict()[name], value), name


def test_own_data_has_the_noun_that_the_user_gives(mixed):
    birds = config(mixed / "birds.csv", "manifest", **{"DATASETS.NOUN": "bird"})
    assert splits(birds).noun == "bird" and not any("every prompt" in note for note in splits(birds).notes)


def test_people_and_vehicles_need_a_noun(mixed, tmp_path):
    both = config(mixed, "veri", "market1501", **{"OUTPUT_DIR": str(tmp_path / "out")})
    words = r"different nouns \(vehicle for veri, person for market1501\).*set DATASETS\.NOUN"
    with pytest.raises(ConfigError, match=words):
        train(both)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=words):
        build_model(both, num_classes=2, clip="random")
    with pytest.raises(ConfigError, match=r"person for manifest"):
        splits(config(mixed, "veri", f"manifest:{mixed / 'birds.csv'}"))


def test_one_noun_for_both_is_used_and_said(mixed):
    both = config(mixed, "veri", "market1501", **{"DATASETS.NOUN": "object"})
    joined = splits(both)
    assert joined.noun == "object"
    note = "every prompt says object, as DATASETS.NOUN does; without it: vehicle for veri, person for market1501"
    assert joined.notes[-1] == note
    assert build_model(both, num_classes=2, clip="random").prompt_learner is not None


def test_a_configuration_saved_before_keeps_its_noun(mixed):
    saved = config(mixed, "veri", "market1501", **{"DATASETS.NOUN": "person"}).to_yaml_tree()
    assert splits(from_tree(saved)).noun == "person"


def test_without_prompts_no_noun_is_needed(mixed):
    both = config(mixed, "veri", "market1501", **{"MODEL.USE_TEXT": False})
    assert not any("every prompt" in note for note in splits(both).notes)
    build_model(both, num_classes=2, clip="random")


def test_testing_asks_for_no_noun(mixed):
    both = config(mixed, "veri", "market1501")
    report = LiveReport(Console(file=io.StringIO()))
    assert list(load_test_splits(both, Options(), report)) == ["veri+market1501"]

"""What is refused, what is recorded and what is lost where a run is continued under another configuration."""

import json
import shutil

import pytest
import torch

from svllreid import load_config
from svllreid.errors import CheckpointError, ConfigError, EvaluationError, ImageError, OutputError
from svllreid.jobs.preparing import Options
from svllreid.jobs.run_folder import RunFolder
from svllreid.jobs.training import train

ALLOW = Options(allow_config_change=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_config):
    folder = tmp_path_factory.mktemp("run")
    train(small_config({"OUTPUT_DIR": str(folder), "SOLVER.STAGE2.CHECKPOINT_PERIOD": 1}))
    return folder


@pytest.fixture
def run(finished, tmp_path, small_config):
    """The finished run in a folder of its own, and a maker of its configuration with other keys."""
    shutil.copytree(finished, tmp_path / "run")
    common = {"OUTPUT_DIR": str(tmp_path / "run"), "SOLVER.STAGE2.CHECKPOINT_PERIOD": 1}
    return tmp_path / "run", lambda overrides=None: small_config({**common, **(overrides or {})})


def test_a_finished_run_keeps_the_record_of_its_training(run, caplog):
    folder, config = run
    before = (folder / "config.yml").read_text()
    with caplog.at_level("INFO", "svllreid"):
        train(config({"SOLVER.STAGE2.BASE_LR": 5e-4}), ALLOW)
    assert (folder / "config.yml").read_text() == before
    assert not (folder / "config_changes.json").exists()
    assert "nothing is left to train, so what has changed takes no effect: SOLVER.STAGE2.BASE_LR" in caplog.text


def test_a_change_in_the_middle_is_recorded_with_the_weights(run):
    folder, config = run
    train(config({"SOLVER.STAGE2.MAX_EPOCHS": 3, "SOLVER.STAGE2.BASE_LR": 5e-4}), ALLOW)
    changed = {
        "SOLVER.STAGE2.MAX_EPOCHS": {"before": 2, "now": 3},
        "SOLVER.STAGE2.BASE_LR": {"before": 1e-4, "now": 5e-4},
    }
    record = [{"stage": 2, "epochs": 2, "steps": 0, "changed": changed}]
    assert json.loads((folder / "config_changes.json").read_text()) == record
    assert json.loads((folder / "tiny_3.json").read_text())["changes"] == record
    assert json.loads((folder / "tiny_2.json").read_text())["changes"] == []
    assert load_config(folder / "config.yml").solver.stage2.base_lr == 5e-4
    train(config({"SOLVER.STAGE2.MAX_EPOCHS": 3, "SOLVER.STAGE2.BASE_LR": 5e-4}), Options(fresh=True))
    assert not (folder / "config_changes.json").exists()


def test_a_longer_stage_1_below_a_trained_stage_2_is_refused(run):
    folder, config = run
    before = (folder / "config.yml").read_text()
    with pytest.raises(ConfigError, match=r"trained against the prompts of an earlier stage 1.*--fresh"):
        train(config({"SOLVER.STAGE1.MAX_EPOCHS": 3}), ALLOW)
    assert (folder / "config.yml").read_text() == before and not (folder / "tiny_stage1_3.pth").exists()


@pytest.mark.parametrize("stage", [1, 2])
def test_fewer_epochs_than_trained_are_refused_by_their_key(run, stage):
    _, config = run
    message = rf"SOLVER\.STAGE{stage}\.MAX_EPOCHS 1: stage {stage} in .* has already trained 2 epochs"
    with pytest.raises(ConfigError, match=message):
        train(config({f"SOLVER.STAGE{stage}.MAX_EPOCHS": 1}), ALLOW)


def test_stage_2_of_other_prompts_is_refused(run, monkeypatch):
    """Stage 1 trained anew under another rate leaves a stage 2 behind that belongs to the old prompts."""
    folder, config = run
    other = config({"SOLVER.STAGE1.BASE_LR": 0.05})
    train(other, Options(stage=1, fresh=True))
    with pytest.raises(CheckpointError, match=r"tiny_2\.pth was trained against other prompts .*--stage 2 --fresh"):
        train(other, Options(stage=2, allow_config_change=True))
    (folder / "tiny_2.pth").unlink()
    with pytest.raises(CheckpointError, match=r"stage2\.pt was trained against other prompts .*train stage 2 again"):
        train(other, Options(stage=2, allow_config_change=True))
    assert train(other, Options(stage=2, fresh=True)) is not None


def test_a_failing_evaluation_costs_no_checkpoint(small_config, tmp_path, monkeypatch):
    import svllreid.jobs.evaluating as module

    config = small_config({"OUTPUT_DIR": str(tmp_path), "MODEL.USE_TEXT": False, "SOLVER.STAGE2.MAX_EPOCHS": 1})

    def failing(*arguments, **options):
        raise EvaluationError("no query can be counted")

    with monkeypatch.context() as patch, pytest.raises(EvaluationError):
        patch.setattr(module, "measure", failing)
        train(config)
    kept = torch.load(tmp_path / "tiny_1.pth", weights_only=True)
    assert not (tmp_path / "metrics.json").exists()
    metrics = train(config)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert (tmp_path / "tiny_best.pth").is_file()
    again = torch.load(tmp_path / "tiny_1.pth", weights_only=True)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@pytest.fixture
def own_market(market, tmp_path):
    """A copy of the rendered dataset that a test may spoil."""
    return shutil.copytree(market, tmp_path / "data")


def one_camera(root):
    for file in (root / "Market-1501-v15.09.15" / "query").iterdir():
        file.unlink()
    for file in (root / "Market-1501-v15.09.15" / "bounding_box_test").iterdir():
        if "_c1" in file.name:
            shutil.copy(file, root / "Market-1501-v15.09.15" / "query")
        else:
            file.unlink()


def no_common_identity(root):
    for file in (root / "Market-1501-v15.09.15" / "query").iterdir():
        file.rename(file.with_name(file.name.replace("000", "009", 1)))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(one_camera, "all matches are junk"), (no_common_identity, "no query's pid is in the gallery")],
)
def test_a_test_split_that_cannot_be_tested_is_met_before_training(small_config, own_market, tmp_path, spoil, reason):
    spoil(own_market)
    config = small_config({"DATASETS.ROOT_DIR": str(own_market), "OUTPUT_DIR": str(tmp_path / "out")})
    with pytest.raises(EvaluationError, match=rf"market1501: no query can be counted: {reason}"):
        train(config)
    assert not (tmp_path / "out").exists()


def test_an_unreadable_test_image_is_met_before_training(small_config, own_market, tmp_path):
    victim = sorted((own_market / "Market-1501-v15.09.15" / "bounding_box_test").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:300])
    config = small_config({"DATASETS.ROOT_DIR": str(own_market), "OUTPUT_DIR": str(tmp_path / "out")})
    with pytest.raises(ImageError, match=rf"1 of 16 gallery images of market1501: .*{victim.name}"):
        train(config)
    assert not (tmp_path / "out").exists()


def test_the_best_checkpoint_is_chosen_on_the_named_test_sets(small_config, tmp_path, market):
    """And the last epoch is embedded once."""
    import svllreid.jobs.testing as module

    shutil.copytree(market, tmp_path / "other")
    names = [f"market1501:{market}", f"market1501:{tmp_path / 'other'}"]
    embedded = []
    original = module.embed_splits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "embed_splits", lambda *a: embedded.append(a[2].name) or original(*a))
        metrics = train(
            small_config({"DATASETS.TEST": names, "MODEL.USE_TEXT": False, "OUTPUT_DIR": str(tmp_path / "out")})
        )
    assert len(embedded) == 2 * 2
    assert list(metrics["datasets"]) == ["market1501", "market1501#2"]
    best = json.loads((tmp_path / "out" / "state" / "stage2.json").read_text())["best"]
    assert best["measured"]["datasets"] == ["market1501", "market1501#2"]
    each = [metrics["datasets"][name]["mAP"] for name in metrics["datasets"]]
    scored = [best["datasets"][name]["mAP"] for name in best["datasets"]]
    assert best["mAP"] == pytest.approx(sum(scored) / 2) and best["mAP"] >= sum(each) / 2
    for name in metrics["datasets"]:
        assert (tmp_path / "out" / name / "metrics.json").is_file()


def test_a_stage_whose_state_is_gone_says_that_it_begins_anew(run, caplog):
    folder, config = run
    (folder / "state" / "stage2.pt").unlink()
    with caplog.at_level("INFO", "svllreid"):
        train(config({"SOLVER.STAGE2.MAX_EPOCHS": 3}), ALLOW)
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"stage 2 begins anew, since there is no {folder / 'state' / 'stage2.pt'} to continue from")
    assert str(folder / "tiny_1.pth") in line and "continues after" not in caplog.text


def test_a_stage_says_after_which_epoch_it_continues(run, caplog):
    _, config = run
    with caplog.at_level("INFO", "svllreid"):
        train(config({"SOLVER.STAGE2.MAX_EPOCHS": 3}), ALLOW)
    assert "stage 2 continues after epoch 2\n" in caplog.text and "begins anew" not in caplog.text


@pytest.mark.parametrize("damage", ["{}", "[3]", "[", '"text"'])
def test_a_damaged_record_of_changes_is_refused(run, damage):
    folder, config = run
    (folder / "config_changes.json").write_text(damage)
    with pytest.raises(CheckpointError, match=r"config_changes\.json cannot be read .*restore or remove it"):
        train(config({"SOLVER.STAGE2.MAX_EPOCHS": 3}), ALLOW)


def test_checkpoints_of_a_longer_run_do_not_cost_those_of_this_one(run):
    folder, config = run
    shutil.copy(folder / "tiny_2.pth", folder / "tiny_9.pth")
    train(config({"SOLVER.KEEP_LAST": 1}), Options(stage=2, fresh=True))
    shutil.copy(folder / "tiny_2.pth", folder / "tiny_9.pth")
    train(config({"SOLVER.STAGE2.MAX_EPOCHS": 3, "SOLVER.KEEP_LAST": 1}), ALLOW)
    assert {file.name for file in folder.glob("tiny_[0-9]*.pth")} == {"tiny_3.pth", "tiny_9.pth"}


def test_a_folder_in_which_another_process_trains_is_refused(run, monkeypatch):
    import svllreid.jobs.run_folder as module

    folder, config = run
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    before = (folder / "config.yml").read_text()
    with RunFolder(folder, "tiny").locked(), pytest.raises(OutputError, match="another process is training in"):
        train(config({"SOLVER.STAGE2.MAX_EPOCHS": 3}), ALLOW)
    assert (folder / "config.yml").read_text() == before
    train(config({"SOLVER.STAGE2.MAX_EPOCHS": 3}), ALLOW)


@pytest.mark.parametrize("name", ["tiny_2.pth", "tiny_best.pth", "tiny_stage1_2.pth"])
def test_the_weights_to_start_from_are_not_replaced(run, name):
    folder, config = run
    before = (folder / name).read_bytes()
    with pytest.raises(ConfigError, match=rf"MODEL\.PRETRAINED .*{name} lies in OUTPUT_DIR .*give another OUTPUT_DIR"):
        train(config({"MODEL.PRETRAINED": str(folder / name)}), Options(fresh=True))
    assert (folder / name).read_bytes() == before


def test_the_baseline_takes_no_prompts_and_has_no_stage_1(small_config, tmp_path, caplog):
    config = small_config({"MODEL.USE_TEXT": False, "MODEL.USE_SSL_STAGE1": True, "OUTPUT_DIR": str(tmp_path / "out")})
    with pytest.raises(ConfigError, match=r"--stage1-weights: the one-stage baseline .* has no prompts"):
        train(config, Options(stage=2, stage1_weights=tmp_path / "any.pth"))
    with caplog.at_level("INFO", "svllreid"):
        train(config, Options(max_steps=1))
    assert "MODEL.USE_SSL_STAGE1 has no effect" in caplog.text


def test_a_stage_1_that_could_learn_nothing_is_refused(small_config, tmp_path):
    config = small_config({"SOLVER.STAGE1.IMS_PER_BATCH": 1, "OUTPUT_DIR": str(tmp_path / "out")})
    with pytest.raises(ConfigError, match=r"SOLVER\.STAGE1\.IMS_PER_BATCH 1: .* set at least 2, two for each process"):
        train(config)
    assert not (tmp_path / "out").exists()

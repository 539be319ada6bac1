"""Runs from the first image to metrics.json, and what is done when a folder already holds one."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from svllreid import Encoder, load_config
from svllreid.build import build_fabric, build_splits, load_trained
from svllreid.errors import CheckpointError, ConfigError, DatasetError, ImageError
from svllreid.jobs.preparing import Options
from svllreid.jobs.testing import embed_splits, run_test
from svllreid.jobs.training import train
from svllreid.runtime.progress import LiveReport


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_config):
    """One whole run, shared: both stages with everything on."""
    folder = tmp_path_factory.mktemp("run")
    config = small_config({"OUTPUT_DIR": str(folder)})
    return config, folder, train(config)


def test_files_of_a_run(finished):
    config, folder, metrics = finished
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {
        "config.yml",
        "log.txt",
        "metrics.json",
        "queries.csv",
        "ranklist.png",
        "report.html",
        "scalars.csv",
        "state/image_features.safetensors",
    }
    expected |= {f"state/{file}" for file in ("lock", "stage1.pt", "stage1.json", "stage2.pt", "stage2.json")}
    expected |= {f"tiny_{end}.{kind}" for end in ("stage1_2", "2", "best") for kind in ("pth", "json")}
    assert expected == {name for name in names if not name.startswith("events.")}
    assert load_config(folder / "config.yml") == config
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert {"mAP", "mINP", "rank1", "rank5", "rank10", "num_queries", "num_gallery", "protocol"} <= set(metrics)
    assert (metrics["num_queries"], metrics["num_gallery"], metrics["protocol"]) == (8, 16, "cross-camera")
    assert 0 < metrics["mAP"] <= 1
    log = (folder / "log.txt").read_text()
    for words in ("stage 1 epoch 2: loss", "loss_t2i", "stage 2 epoch 2: loss", "loss_ssl", "epoch 1: mAP", "img/s"):
        assert words in log


def test_scalars_by_name(finished):
    _, folder, _ = finished
    events = EventAccumulator(str(folder)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"stage1/loss_i2t", "stage1/loss_ssl", "stage1/lr", "stage2/loss_id", "stage2/loss_triplet"} <= tags
    assert {"stage2/loss_ssl", "stage2/images_per_second", "eval/mAP", "eval/rank1"} <= tags
    assert len(events.Scalars("eval/mAP")) == 2


def test_checkpoints_are_flat_and_say_what_they_are(finished):
    _, folder, _ = finished
    state = torch.load(folder / "tiny_2.pth", weights_only=True)
    assert {"cv_embed", "classifier.weight", "prompt_learner.cls_ctx", "text_encoder.text_projection"} <= set(state)
    info = json.loads((folder / "tiny_2.json").read_text())
    assert (info["stage"], info["epoch"], info["num_classes"], info["num_cameras"]) == (2, 2, 4, 2)
    assert info["pids"] == [1, 2, 3, 4]
    assert (
        load_config(overrides=info["config"] and {"MODEL.NAME": "tiny"}).model.name == info["config"]["MODEL"]["NAME"]
    )


def test_both_stages_train(finished):
    _, folder, _ = finished
    first, last = (torch.load(folder / f"tiny_{n}.pth", weights_only=True) for n in ("stage1_2", "2"))
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert {"image_encoder.conv1.weight", "cv_embed", "classifier.weight", "image_mlp.layer1.weight"} <= moved
    assert not any(name.startswith(("prompt_learner.", "text_encoder.", "text_mlp.")) for name in moved)


def test_testing_a_checkpoint_repeats_its_numbers_and_fetches_nothing(finished, tmp_path, monkeypatch):
    config, folder, metrics = finished
    monkeypatch.setattr("open_clip.download_pretrained", lambda *a, **k: pytest.fail("fetched"))
    update = {
        "test": config.test.model_copy(update={"weight": str(folder / "tiny_2.pth")}),
        "output_dir": str(tmp_path),
    }
    update["model"] = config.model.model_copy(update={"pretrained": "openai"})
    again = run_test(config.model_copy(update=update))
    assert again == {**metrics, "weight": str(folder / "tiny_2.pth")}
    assert (tmp_path / "ranklist.png").stat().st_size > 1000


def test_encoder_takes_paths_and_arrays(finished, market):
    _, folder, _ = finished
    encoder = Encoder.load(folder / "tiny_2.pth", device="cpu")
    paths = sorted((market / "Market-1501-v15.09.15" / "query").iterdir())[:3]
    arrays = [np.asarray(Image.open(path)) for path in paths]
    features = encoder.encode(paths, camids=[0, 1, 0])
    assert features.shape == (3, 384) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(arrays, camids=[0, 1, 0]), features, atol=1e-6)
    assert not np.allclose(encoder.encode(paths), features)
    assert encoder.encode([]).shape == (0, 384)
    with pytest.raises(DatasetError, match=r"camids 2 is none of those the model was trained with \(0, 1\)"):
        encoder.encode(paths, camids=[0, 1, 2])
    with pytest.raises(DatasetError, match="3 images but 1 camids"):
        encoder.encode(paths, camids=[0])
    with pytest.raises(DatasetError, match="uint8"):
        encoder.encode([arrays[0].astype(float)])


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run in a folder of its own."""
    config, folder, metrics = finished
    shutil.copytree(folder, tmp_path / "run")
    return config.model_copy(update={"output_dir": str(tmp_path / "run")}), tmp_path / "run", metrics


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.pth")}


def test_a_finished_run_is_not_run_again(copied):
    config, folder, metrics = copied
    before = stamps(folder)
    (folder / "ranklist.png").unlink()
    events = sorted(folder.glob("events.out.*"))
    again = train(config)
    assert stamps(folder) == before and not (folder / "ranklist.png").exists()
    assert again == metrics and sorted(folder.glob("events.out.*")) == events
    assert "this run is complete; --fresh starts over" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("damage", ["", '{"mAP": ', "[1]", '{"mAP": "high"}'])
def test_numbers_of_a_finished_run_that_are_damaged_are_measured_again(copied, damage):
    config, folder, metrics = copied
    (folder / "metrics.json").write_text(damage)
    before = stamps(folder)
    assert train(config)["mAP"] == pytest.approx(metrics["mAP"])
    assert stamps(folder) == before
    assert (
        "metrics.json does not hold the numbers of a test; they are measured again" in (folder / "log.txt").read_text()
    )
    assert json.loads((folder / "metrics.json").read_text())["num_queries"] == metrics["num_queries"]


def test_fresh_starts_over_and_gives_the_same_weights(copied):
    config, folder, _ = copied
    (folder / "mine.txt").write_text("not the run's")
    first = torch.load(folder / "tiny_2.pth", weights_only=True)
    before = stamps(folder)
    train(config, Options(fresh=True))
    after = stamps(folder)
    assert all(after[name] != before[name] for name in before)
    second = torch.load(folder / "tiny_2.pth", weights_only=True)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (folder / "mine.txt").exists()


def test_an_interrupted_run_ends_with_the_same_weights(finished, tmp_path, monkeypatch):
    """Stopped after epoch 1 of each stage; continued, it ends bit-identically."""
    config, folder, _ = finished
    config = config.model_copy(update={"output_dir": str(tmp_path)})
    from svllreid.training.loop import StageRun

    original, stops = StageRun._run_epoch, []

    def stopping(self, epoch):
        if epoch == 2 and self.plan.stage not in stops:
            stops.append(self.plan.stage)
            raise KeyboardInterrupt
        original(self, epoch)

    monkeypatch.setattr(StageRun, "_run_epoch", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(config)
    train(config)
    assert stops == ["stage 1", "stage 2"]
    whole, continued = (torch.load(f / "tiny_2.pth", weights_only=True) for f in (folder, tmp_path))
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


def test_another_configuration_is_refused_with_the_differing_keys(copied):
    config, _, _ = copied
    other = config.model_copy(update={"solver": config.solver.model_copy(update={"margin": 0.5})})
    with pytest.raises(ConfigError, match=r"(?s)--allow-config-change.*SOLVER\.MARGIN: 0\.3 before, 0\.5 now"):
        train(other)
    train(other, Options(allow_config_change=True))
    workers = config.model_copy(update={"dataloader": config.dataloader.model_copy(update={"num_workers": 1})})
    train(workers, Options(allow_config_change=True))


def test_stages_alone(small_config, tmp_path):
    config = small_config({"OUTPUT_DIR": str(tmp_path / "a")})
    assert train(config, Options(stage=1)) is None
    assert (tmp_path / "a" / "tiny_stage1_2.pth").is_file() and not (tmp_path / "a" / "tiny_2.pth").exists()
    elsewhere = small_config({"OUTPUT_DIR": str(tmp_path / "b")})
    with pytest.raises(CheckpointError, match=r"stage 2 needs stage 1's prompts.*--stage1-weights"):
        train(elsewhere, Options(stage=2))
    metrics = train(elsewhere, Options(stage=2, stage1_weights=tmp_path / "a" / "tiny_stage1_2.pth"))
    here = train(config, Options(stage=2))
    assert metrics["mAP"] == here["mAP"]
    with pytest.raises(ConfigError, match="has no stage 1"):
        train(small_config({"MODEL.USE_TEXT": False, "OUTPUT_DIR": str(tmp_path / "c")}), Options(stage=1))


def test_prompts_of_other_people_are_refused(small_config, tmp_path, market):
    config = small_config({"OUTPUT_DIR": str(tmp_path / "a")})
    train(config, Options(stage=1))
    file = tmp_path / "a" / "tiny_stage1_2.pth"
    info = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps({**info, "pids": [1, 2, 3, 9]}))
    with pytest.raises(CheckpointError, match="prompts of other identities"):
        train(small_config({"OUTPUT_DIR": str(tmp_path / "b")}), Options(stage=2, stage1_weights=file))


def test_fresh_stage_2_keeps_the_prompts(copied):
    config, folder, _ = copied
    before = stamps(folder)
    train(config, Options(stage=2, fresh=True, stage1_weights=folder / "tiny_stage1_2.pth"))
    after = stamps(folder)
    assert after["tiny_stage1_2.pth"] == before["tiny_stage1_2.pth"] and after["tiny_2.pth"] != before["tiny_2.pth"]
    with pytest.raises(ConfigError, match="goes with --stage 2"):
        train(config, Options(stage1_weights=folder / "tiny_stage1_2.pth"))


def test_a_state_of_other_people_or_another_model_is_refused(copied):
    config, folder, _ = copied
    (folder / "tiny_2.pth").unlink()
    file = folder / "state" / "stage2.pt"
    state = torch.load(file, weights_only=True)
    torch.save({**state, "pids": [1, 2, 3, 9]}, file)
    with pytest.raises(CheckpointError, match=r"other identities.*start over"):
        train(config)
    torch.save(state, file)
    siamese = config.model_copy(update={"model": config.model.model_copy(update={"ssl_type": "SIMSIAM"})})
    with pytest.raises(CheckpointError, match=r"another model.*start over"):
        train(siamese, Options(allow_config_change=True))


def test_a_removed_checkpoint_is_written_again_from_the_state(copied):
    config, folder, _ = copied
    before = torch.load(folder / "tiny_2.pth", weights_only=True)
    (folder / "tiny_2.pth").unlink()
    train(config)
    after = torch.load(folder / "tiny_2.pth", weights_only=True)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_begun_in_full_precision_continues_in_mixed(copied):
    config, folder, _ = copied
    (folder / "tiny_2.pth").unlink()
    state = torch.load(folder / "state" / "stage2.pt", weights_only=True)
    state["epoch"] = 1
    torch.save(state, folder / "state" / "stage2.pt")
    (folder / "state" / "stage2.json").write_text('{"settled": 1}')
    solver = config.solver.model_copy(update={"precision": "bf16-mixed"})
    assert train(config.model_copy(update={"solver": solver}), Options(allow_config_change=True)) is not None


def test_a_refused_fresh_run_removes_nothing(copied, tmp_path):
    config, folder, _ = copied
    before = {path.name for path in folder.iterdir()}
    data = config.datasets.model_copy(update={"root_dir": str(tmp_path / "mistyped")})
    with pytest.raises(DatasetError, match="mistyped"):
        train(config.model_copy(update={"datasets": data}), Options(fresh=True))
    assert {path.name for path in folder.iterdir()} == before


def test_published_stage1_files_of_duke_are_refused(small_config, tmp_path, market):
    train(small_config({"OUTPUT_DIR": str(tmp_path / "a")}), Options(stage=1))
    file = tmp_path / "a" / "tiny_stage1_2.pth"
    file.with_suffix(".json").unlink()
    duke = tmp_path / "dukemtmcreid" / "DukeMTMC-reID"
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (duke / folder).mkdir(parents=True)
        for image in (market / "Market-1501-v15.09.15" / folder).iterdir():
            pid, camera, shot, _ = image.stem.split("_")
            shutil.copy(image, duke / folder / f"{pid}_{camera[:2]}_f{camera[1]}{shot}.jpg")
    config = small_config(
        {"DATASETS.NAMES": "dukemtmc", "DATASETS.ROOT_DIR": str(tmp_path), "OUTPUT_DIR": str(tmp_path / "b")}
    )
    with pytest.raises(CheckpointError, match="numbered in another order"):
        train(config, Options(stage=2, stage1_weights=file))


@pytest.mark.parametrize(
    "overrides",
    [
        {"MODEL.SSL_TYPE": "SIMSIAM", "SOLVER.STAGE1.PROMPT_AUG_METHOD": "mix"},
        {"MODEL.USE_SSL": False, "SOLVER.STAGE1.PROMPT_AUG_METHOD": "swap", "TEST.NECK_FEAT": "after"},
        {"MODEL.USE_TEXT": False, "MODEL.USE_SSL": False, "TEST.FEAT_NORM": "no"},
        {"TEST.RE_RANKING": True, "MODEL.USE_SSL_STAGE1": False, "DATALOADER.NUM_WORKERS": 1},
    ],
    ids=["simsiam-mix", "stage 1 alone, after neck", "baseline, not normalised", "re-ranked"],
)
def test_variants_train_and_test(small_config, tmp_path, overrides):
    metrics = train(small_config({"OUTPUT_DIR": str(tmp_path), "SOLVER.STAGE2.MAX_EPOCHS": 1, **overrides}))
    assert metrics["re_ranking"] == overrides.get("TEST.RE_RANKING", False)
    assert 0 < metrics["mAP"] <= 1


def test_neck_and_norm_of_the_tested_features(finished):
    config, folder, _ = finished
    splits, fabric = build_splits(config), build_fabric(config, "cpu")

    def features(**update):
        changed = config.model_copy(update={"test": config.test.model_copy(update=update)})
        with LiveReport(Console(stderr=True)) as report:
            model, _, _ = load_trained(folder / "tiny_2.pth", changed)
            return embed_splits(model, changed, splits, fabric, report).q_feats

    before, after, unnormalised = features(), features(neck_feat="after"), features(feat_norm="no")
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(before.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(F.normalize(unnormalised, dim=1), before)
    assert (unnormalised.norm(dim=1) > 1.5).all()


def test_own_folder_without_cameras(small_config, tmp_path, market):
    base = market / "Market-1501-v15.09.15"
    for split, source in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
        for image in (base / source).iterdir():
            pid, camera, shot, _ = image.stem.split("_")
            target = tmp_path / "own" / split / f"person {pid}"
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target / f"{camera[1]}{shot}.jpg")
    overrides = {"DATASETS.NAMES": "folder", "DATASETS.ROOT_DIR": str(tmp_path / "own"), "DATASETS.NOUN": "pedestrian"}
    metrics = train(small_config({**overrides, "OUTPUT_DIR": str(tmp_path / "out")}))
    assert metrics["protocol"] == "leave-self-out"
    assert "MODEL.SIE_CAMERA is switched off: no image has a known camera" in (tmp_path / "out" / "log.txt").read_text()
    state = torch.load(tmp_path / "out" / "tiny_2.pth", weights_only=True)
    assert "cv_embed" not in state
    assert json.loads((tmp_path / "out" / "tiny_2.json").read_text())["pids"][0] == "person 0001"


def test_another_dataset_than_trained_on_switches_side_information_off(finished, tmp_path, market, caplog):
    config, folder, _ = finished
    rows = ["path,pid,camid,split"]
    for split, source in (("query", "query"), ("gallery", "bounding_box_test")):
        for image in sorted((market / "Market-1501-v15.09.15" / source).iterdir()):
            rows.append(f"{image},{int(image.name[:4])},{int(image.name[6]) + 5},{split}")
    (tmp_path / "own.csv").write_text("\n".join(rows))
    data = config.datasets.model_copy(update={"names": "manifest", "root_dir": str(tmp_path / "own.csv")})
    test = config.test.model_copy(update={"weight": str(folder / "tiny_2.pth")})
    with caplog.at_level("INFO", "svllreid"):
        metrics = run_test(config.model_copy(update={"datasets": data, "test": test, "output_dir": str(tmp_path)}))
    assert metrics["dataset"] == "manifest"
    assert "the classifiers of its 4 identities of market1501 are left out" in caplog.text
    assert "switched off: camera ids mean nothing outside market1501" in caplog.text


def test_camera_beyond_the_table(small_config, tmp_path, market):
    shutil.copytree(market, tmp_path / "data")
    query = next((tmp_path / "data" / "Market-1501-v15.09.15" / "query").iterdir())
    query.rename(query.with_name(query.name.replace("_c1", "_c6").replace("_c2", "_c6")))
    config = small_config({"DATASETS.ROOT_DIR": str(tmp_path / "data"), "OUTPUT_DIR": str(tmp_path / "out")})
    with pytest.raises(DatasetError, match=r"have camera 5, .*for camera 0, 1; set MODEL\.SIE_CAMERA false"):
        train(config)


def test_unreadable_images_stop_or_are_skipped(small_config, tmp_path, market):
    shutil.copytree(market, tmp_path / "data")
    victim = sorted((tmp_path / "data" / "Market-1501-v15.09.15" / "bounding_box_train").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:300])
    config = small_config({"DATASETS.ROOT_DIR": str(tmp_path / "data"), "OUTPUT_DIR": str(tmp_path / "out")})
    with pytest.raises(ImageError, match=victim.name):
        train(config)
    workers = config.model_copy(update={"dataloader": config.dataloader.model_copy(update={"num_workers": 1})})
    with pytest.raises(ImageError, match=victim.name):
        train(workers)
    assert train(config, Options(skip_unreadable=True, fresh=True)) is not None
    assert "1 of 24 images left out" in (tmp_path / "out" / "log.txt").read_text()


def test_too_few_identities_are_noticed_before_stage_1(small_config, tmp_path):
    config = small_config({"SOLVER.STAGE2.IMS_PER_BATCH": 64, "OUTPUT_DIR": str(tmp_path)})
    with pytest.raises(DatasetError, match="4 identities, a batch needs 32"):
        train(config)
    assert not list(tmp_path.glob("*.pth"))


def test_held_out_identities(small_config, tmp_path):
    config = small_config(
        {"DATASETS.VAL_IDENTITIES": 0.5, "SOLVER.STAGE2.IMS_PER_BATCH": 4, "OUTPUT_DIR": str(tmp_path)}
    )
    metrics = train(config)
    assert (metrics["num_queries"], metrics["num_gallery"]) == (4, 8)
    assert json.loads((tmp_path / "tiny_2.json").read_text())["num_classes"] == 2


def test_a_full_disk_leaves_the_old_files(finished, copied, monkeypatch):
    config, folder, _ = copied
    before = stamps(folder)
    import svllreid.training.state as state
    from svllreid.errors import OutputError

    def full(content, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.torch, "save", full)
    (folder / "tiny_2.pth").unlink()
    (folder / "state" / "stage2.pt").unlink()
    before = stamps(folder)
    with pytest.raises(OutputError, match=r"stage2\.pt could not be written: no space left"):
        train(config)
    assert stamps(folder) == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]

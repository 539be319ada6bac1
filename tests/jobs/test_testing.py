"""Testing beyond the run's own dataset: several at once, VehicleID, VeRi's variants, saved features, the report."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from svllreid import load_config
from svllreid.build import build_splits, build_test_splits
from svllreid.errors import ConfigError, DatasetError, EvaluationError, OutputError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import evaluate_protocol
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.jobs import testing as module
from svllreid.jobs.preparing import Options
from svllreid.jobs.testing import run_features, run_test
from svllreid.jobs.testing import test_config as checkpoint_config
from svllreid.jobs.training import train

from ..conftest import draw_person


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_config):
    """A short run on the small people."""
    folder = tmp_path_factory.mktemp("run")
    train(small_config({"OUTPUT_DIR": str(folder), "SOLVER.STAGE2.MAX_EPOCHS": 1, "SOLVER.STAGE1.MAX_EPOCHS": 1}))
    return folder / "tiny_1.pth"


@pytest.fixture
def testing(finished, small_config, tmp_path):
    """Tests the run under other settings."""

    def run(overrides, **options):
        base = {"TEST.WEIGHT": str(finished), "OUTPUT_DIR": str(tmp_path / "out")}
        return run_test(small_config({**base, **overrides}), **options)

    return run


@pytest.fixture
def several(market, tmp_path):
    """Market-1501 and, in DukeMTMC-reID's layout, the same people noisier, below one folder."""
    root = tmp_path / "data"
    shutil.copytree(market, root)
    duke = root / "dukemtmcreid" / "DukeMTMC-reID"
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (duke / folder).mkdir(parents=True)
        for image in (root / "Market-1501-v15.09.15" / folder).iterdir():
            pid, camera, shot, _ = image.stem.split("_")
            pixels = np.asarray(Image.open(image)) // 4 * 4
            Image.fromarray(pixels).save(duke / folder / f"{pid}_{camera[:2]}_f{shot}.jpg")
    return root


@pytest.fixture
def vehicles(tmp_path):
    """VehicleID's layout: 6 vehicles to test, the small list naming 4 of them."""
    base = tmp_path / "vehicles" / "VehicleID_V1.0"
    (base / "image").mkdir(parents=True)
    (base / "train_test_split").mkdir()
    lines = {}
    for vehicle in range(10):
        for shot in range(3):
            draw_person(vehicle, shot).save(base / "image" / f"{vehicle:04d}{shot}.jpg")
            lines.setdefault(vehicle, []).append(f"{vehicle:04d}{shot} {vehicle}\n")
    for name, chosen in (("train_list", range(4)), ("test_list_800", range(4, 8)), ("test_list_1600", range(4, 10))):
        (base / "train_test_split" / f"{name}.txt").write_text("".join("".join(lines[v]) for v in chosen))
    return base.parent


def test_several_datasets_in_one_table(testing, several, tmp_path):
    found = testing({"DATASETS.TEST": ["market1501", "dukemtmc"], "DATASETS.ROOT_DIR": str(several)})
    assert list(found["datasets"]) == ["market1501", "dukemtmc"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == found
    for name, metrics in found["datasets"].items():
        assert json.loads((tmp_path / "out" / name / "metrics.json").read_text()) == metrics
        assert (tmp_path / "out" / name / "report.html").is_file()
        assert (metrics["dataset"], metrics["protocol"], metrics["num_queries"]) == (name, "cross-camera", 8)


def test_a_dataset_may_lie_elsewhere_and_names_stay_apart(testing, several, market, tmp_path, caplog):
    shutil.copytree(several / "dukemtmcreid", tmp_path / "elsewhere" / "dukemtmcreid")
    places = [f"dukemtmc:{tmp_path / 'elsewhere'}", "market1501", f"market1501:{market}"]
    found = testing({"DATASETS.TEST": places, "DATASETS.ROOT_DIR": str(several)})
    assert list(found["datasets"]) == ["dukemtmc", "market1501", "market1501#2"]
    assert found["datasets"]["market1501"]["mAP"] == found["datasets"]["market1501#2"]["mAP"]


def test_side_information_serves_its_own_dataset_alone(testing, several, caplog):
    alone = testing({"DATASETS.ROOT_DIR": str(several)})
    caplog.clear()
    found = testing({"DATASETS.TEST": ["dukemtmc", "market1501"], "DATASETS.ROOT_DIR": str(several)})["datasets"]
    assert [record.message for record in caplog.records if "switched off" in record.message] == [
        "dukemtmc: MODEL.SIE_CAMERA and SIE_VIEW are switched off: camera ids mean nothing outside market1501"
    ]
    assert found["market1501"]["verification"] == alone["verification"]


def test_nothing_is_tested_before_all_are_read(testing, several, tmp_path):
    with pytest.raises(DatasetError, match="msmt17"):
        testing({"DATASETS.TEST": ["market1501", "msmt17"], "DATASETS.ROOT_DIR": str(several)})
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named_before_images_are_embedded(testing, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda *arguments: 1 / 0)
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=r"file is no folder that can be written to"):
            testing({"OUTPUT_DIR": str(folder)})


def test_held_out_identities_and_test_sets_exclude_each_other(small_config):
    with pytest.raises(ConfigError, match=r"DATASETS\.VAL_IDENTITIES .*DATASETS\.TEST"):
        build_test_splits(small_config({"DATASETS.TEST": "market1501", "DATASETS.VAL_IDENTITIES": 0.5}))


def test_training_ends_with_the_table(small_config, several, tmp_path):
    found = train(
        small_config(
            {
                "DATASETS.NAMES": ["market1501", "dukemtmc"],
                "DATASETS.TEST": ["dukemtmc", "market1501"],
                "DATASETS.ROOT_DIR": str(several),
                "SOLVER.STAGE1.MAX_EPOCHS": 1,
                "SOLVER.STAGE2.MAX_EPOCHS": 1,
                "OUTPUT_DIR": str(tmp_path / "joint"),
            }
        )
    )
    assert list(found["datasets"]) == ["dukemtmc", "market1501"]
    assert json.loads((tmp_path / "joint" / "tiny_1.json").read_text())["num_classes"] == 8


def test_vehicleid_has_a_block_for_each_size(testing, vehicles, tmp_path):
    found = testing({"DATASETS.NAMES": "VehicleID", "DATASETS.ROOT_DIR": str(vehicles)})
    assert (found["protocol"], list(found["parts"])) == ("vehicleid-10", ["small", "medium"])
    for block, (queries, gallery) in zip(found["parts"].values(), [(8, 4), (12, 6)], strict=True):
        assert (block["num_queries"], block["num_gallery"]) == (queries, gallery)
        assert 0 < block["mAP"] <= 1 and set(block["deviation"]) == {"mAP", "mINP", "rank1", "rank5", "rank10"}
        assert block["verification"]["num_genuine"] == queries
    assert found["mAP"] == found["parts"]["small"]["mAP"]
    with (tmp_path / "out" / "queries.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == ["small"] * 8 + ["medium"] * 12


def test_vehicleid_trains_and_holds_identities_out(small_config, vehicles, tmp_path):
    settings = {
        "DATASETS.NAMES": "VehicleID",
        "DATASETS.ROOT_DIR": str(vehicles),
        "DATASETS.VAL_IDENTITIES": 0.5,
        "MODEL.SIE_CAMERA": False,
        "SOLVER.STAGE2.IMS_PER_BATCH": 4,
        "OUTPUT_DIR": str(tmp_path / "run"),
    }
    found = train(small_config(settings))
    assert list(found["parts"]) == ["all"] and found["num_gallery"] == 2


@pytest.fixture
def veri(tmp_path):
    base = tmp_path / "veri" / "VeRi"
    names = {"image_train": (1, 2), "image_query": (3, 4), "image_test": (3, 4)}
    labels = {"train": [], "test": []}
    for folder, vehicles in names.items():
        (base / folder).mkdir(parents=True)
        for vehicle in vehicles:
            for camera in (1, 2):
                name = f"{vehicle:04d}_c{camera:03d}_0000000{len(folder)}_0.jpg"
                draw_person(vehicle, camera).save(base / folder / name)
                labels["train" if folder == "image_train" else "test"].append(f"x/{name} 0 {camera}\n")
    (tmp_path / "views").mkdir()
    for split, lines in labels.items():
        (tmp_path / "views" / f"keypoint_{split}.txt").write_text("".join(lines[: -1 if split == "test" else None]))
    return base.parent


def test_veris_labels_and_its_published_variant(veri, tmp_path):
    def splits(**keys):
        return build_splits(load_config(overrides={"DATASETS.NAMES": "veri", "DATASETS.ROOT_DIR": str(veri), **keys}))

    plain = splits()
    assert {sample.viewid for sample in plain.train} == {-1} and len(plain.gallery) == 4
    views = {"DATASETS.VERI_VIEWS": str(tmp_path / "views")}
    labelled = splits(**views)
    assert [sample.viewid for sample in labelled.gallery] == [1, 2, 1, -1]
    dropped = splits(**views, **{"TEST.VERI_DROP_UNLABELLED": True})
    assert len(dropped.gallery) == 3
    assert any("1 gallery images without viewpoint label dropped" in note for note in dropped.notes)


def test_metrics_tell_what_the_reader_noticed(testing):
    assert any("published 751" in note for note in testing({})["notes"])


def test_saved_features_are_ranked_again_without_the_model(testing, finished, small_config, tmp_path):
    found = testing({}, save_features=True)
    file = tmp_path / "out" / "features.npz"
    again = run_features(file, small_config({"OUTPUT_DIR": str(tmp_path / "again")}))
    assert again == {**found, "weight": str(file)}
    for name in ("metrics.json", "queries.csv", "ranklist.png", "report.html"):
        assert (tmp_path / "again" / name).is_file()
    reranked = run_features(file, small_config({"TEST.RE_RANKING": True}))
    assert reranked["re_ranking"] and (tmp_path / "out" / "test_market1501" / "metrics.json").is_file()
    assert reranked["re_ranking_options"] == {"k1": 50, "k2": 15, "lambda_value": 0.3}
    keys = {"TEST.RE_RANKING_K1": 4, "TEST.RE_RANKING_K2": 2, "TEST.RE_RANKING_LAMBDA": 0.75}
    reranked = run_features(file, small_config({"TEST.RE_RANKING": True, **keys}))
    assert reranked["re_ranking_options"] == {"k1": 4, "k2": 2, "lambda_value": 0.75}
    expected = evaluate_protocol(FeatureSet.load(file), rerank=RerankOptions(4, 2, 0.75)).metrics
    assert reranked["mAP"] == expected["mAP"]


def test_features_outlive_their_images(testing, several, small_config, tmp_path, caplog):
    testing({"DATASETS.ROOT_DIR": str(several)}, save_features=True)
    shutil.rmtree(several)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "ranklist.png").write_bytes(b"of an earlier test")
    found = run_features(tmp_path / "out" / "features.npz", small_config({"OUTPUT_DIR": str(tmp_path / "again")}))
    assert found["num_queries"] == 8
    assert "no picture:" in caplog.text and not (tmp_path / "again" / "ranklist.png").exists()
    assert "0005_c1s1_000000_00.jpg" in (tmp_path / "again" / "report.html").read_text()


def test_missing_features_are_named(small_config, tmp_path):
    with pytest.raises(EvaluationError, match=r"nowhere\.npz does not exist"):
        run_features(tmp_path / "nowhere.npz", small_config())


def test_a_chosen_false_accept_rate(testing):
    points = testing({"TEST.FAR": [0.25, 0.5]})["verification"]["at_FAR"]
    assert list(points) == ["0.25", "0.5"]
    assert all(point["far"] <= float(rate) for rate, point in points.items())
    assert points["0.25"]["threshold"] <= points["0.5"]["threshold"]


def test_a_line_per_query(testing, tmp_path):
    found = testing({})
    with (tmp_path / "out" / "queries.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["num_queries"]
    assert np.mean([float(row["AP"]) for row in rows]) == pytest.approx(found["mAP"])
    assert np.mean([int(row["first_match_rank"]) == 1 for row in rows]) == pytest.approx(found["rank1"])
    assert {row["camid"] for row in rows} == {"0", "1"}


def test_camera_pairs_and_intervals(testing):
    found = testing({})
    assert [(pair["query_camid"], pair["gallery_camid"]) for pair in found["camera_pairs"]] == [(0, 1), (1, 0)]
    assert all(low <= found[name] <= high for name, (low, high) in found["confidence"].items())


class Page(HTMLParser):
    """Addresses and classes of a page; fails on tags closed out of order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.frames = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[name] for name in ("src", "href") if name in found]
        if tag == "figure":
            self.frames.append(found["class"])
        if tag not in ("meta", "img", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_needs_nothing_beside_it(testing, tmp_path):
    testing({})
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.links and all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert "<script" not in text and not re.findall(r"url\(|@import|https?://", text)
    assert page.frames.count("query") == 8 and {"right", "wrong"} <= set(page.frames)
    for words in ("CMC", "ROC over all pairs", "Camera pairs", "Are these two the same?", "95 %", "rank-1"):
        assert words in text
    assert text.count("<polyline") == 3


def test_report_escapes_what_users_named(testing, small_config, tmp_path, market):
    base = market / "Market-1501-v15.09.15"
    for split, source in (("query", "query"), ("gallery", "bounding_box_test")):
        for image in (base / source).iterdir():
            target = tmp_path / "own" / split / f"<i>{image.name[:4]}" / image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
    testing({"DATASETS.NAMES": "folder", "DATASETS.ROOT_DIR": str(tmp_path / "own")})
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<i>0" not in text and "&lt;i&gt;0" in text


def test_one_identity_alone_has_no_verification(testing, market, tmp_path, caplog):
    base = market / "Market-1501-v15.09.15"
    for split, source in (("query", "query"), ("gallery", "bounding_box_test")):
        for image in (base / source).glob("0005*"):
            target = tmp_path / "own" / split / "anna" / image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
    found = testing({"DATASETS.NAMES": "folder", "DATASETS.ROOT_DIR": str(tmp_path / "own")})
    assert found["verification"] is None and found["mAP"] == 1
    assert "no verification: no query and gallery image make an impostor pair" in caplog.text


def test_unreadable_images_leave_the_parts_too(testing, vehicles):
    (vehicles / "VehicleID_V1.0" / "image" / "00050.jpg").write_bytes(b"x")
    settings = {"DATASETS.NAMES": "VehicleID", "DATASETS.ROOT_DIR": str(vehicles)}
    found = testing(settings, options=Options(skip_unreadable=True))
    assert found["parts"]["small"]["num_queries"] == 7
    assert any("1 of 18 images left out" in note for note in found["notes"])


@pytest.mark.real
def test_real_vehicles_train_and_test_through_their_manifest(small_config, real_data, tmp_path):
    settings = {
        "DATASETS.NAMES": "manifest",
        "DATASETS.ROOT_DIR": str(real_data / "vehicle_pairs" / "manifest.csv"),
        "DATASETS.NOUN": "vehicle",
        "INPUT.SIZE_TRAIN": [32, 32],
        "INPUT.SIZE_TEST": [32, 32],
        "SOLVER.STAGE2.IMS_PER_BATCH": 64,
        "SOLVER.STAGE2.BASE_LR": 4e-4,
        "SOLVER.STAGE2.EVAL_PERIOD": 2,
        "OUTPUT_DIR": str(tmp_path),
    }
    found = train(small_config(settings), Options(limit_identities=64))  # of 507
    assert (found["num_queries"], found["num_gallery"], found["protocol"]) == (60, 60, "cross-camera")
    assert [(pair["query_camid"], pair["gallery_camid"]) for pair in found["camera_pairs"]] == [(0, 1)]
    assert found["mAP"] > 0.08, "chance is sum(1 / rank) / 60, 7.8 %"


def own_folder(market, root, splits):
    """The small people as a user's own folder."""
    sources = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    for split in splits:
        for image in (market / "Market-1501-v15.09.15" / sources[split]).iterdir():
            pid, camera, shot, _ = image.stem.split("_")
            target = root / split / pid / f"{pid}_{camera[:2]}_{shot}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)


def test_own_data_elsewhere_has_other_cameras(small_config, market, tmp_path, caplog):
    own_folder(market, tmp_path / "a", ("train", "query", "gallery"))
    own_folder(market, tmp_path / "b", ("query", "gallery"))
    for split in ("query", "gallery"):
        next((tmp_path / "b" / split).rglob("*.jpg")).unlink()
    settings = {
        "DATASETS.NAMES": "folder",
        "DATASETS.ROOT_DIR": str(tmp_path / "a"),
        "DATASETS.TEST": ["folder", f"folder:{tmp_path / 'b'}"],
        "SOLVER.STAGE1.MAX_EPOCHS": 1,
        "SOLVER.STAGE2.MAX_EPOCHS": 1,
        "OUTPUT_DIR": str(tmp_path / "run"),
    }
    found = train(small_config(settings))["datasets"]
    off = [record.getMessage() for record in caplog.records if "switched off" in record.getMessage()]
    assert len(off) == 1 and off[0].startswith("folder#2: ") and str(tmp_path / "a") in off[0]
    assert [found[name]["dataset"] for name in found] == ["folder", "folder#2"]
    caplog.clear()
    weight = {"TEST.WEIGHT": str(tmp_path / "run" / "tiny_1.pth"), "OUTPUT_DIR": str(tmp_path / "again")}
    assert run_test(small_config({**settings, **weight}))["datasets"]["folder"]["mAP"] == found["folder"]["mAP"]
    assert caplog.text.count("switched off") == 1


def test_datasets_named_now_replace_those_of_the_run(finished, several, tmp_path):
    words = ["TEST.WEIGHT", str(finished), "DATASETS.NAMES", "dukemtmc", "DATASETS.ROOT_DIR", str(several)]
    info = json.loads(finished.with_suffix(".json").read_text())
    copy = tmp_path / "copy.pth"
    shutil.copy(finished, copy)
    info["config"]["DATASETS"] |= {"TEST": ["market1501"], "VAL_IDENTITIES": 0.5}
    copy.with_suffix(".json").write_text(json.dumps(info))
    words[1] = str(copy)
    config = checkpoint_config(None, words)
    assert (config.datasets.test, config.datasets.val_identities) == ((), 0)
    [splits] = build_test_splits(config)
    assert splits.name == "dukemtmc"
    assert checkpoint_config(None, words[:2]).datasets.test == ("market1501",)


def test_images_that_broke_since_leave_the_numbers(testing, several, small_config, tmp_path, caplog):
    testing({"DATASETS.ROOT_DIR": str(several)}, save_features=True)
    for image in (several / "Market-1501-v15.09.15" / "query").iterdir():
        image.write_bytes(image.read_bytes()[:300])
    found = run_features(tmp_path / "out" / "features.npz", small_config({"OUTPUT_DIR": str(tmp_path / "again")}))
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == found
    assert "no picture: " in caplog.text and (tmp_path / "again" / "report.html").is_file()


def test_file_names_of_another_encoding(testing, several, tmp_path):
    folder = several / "Market-1501-v15.09.15" / "query"
    image = sorted(folder.iterdir())[0]
    image.rename(image.with_name(image.stem + "_\udce4.jpg"))  # Latin-1, as old archives hold it
    found = testing({"DATASETS.ROOT_DIR": str(several)})
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == found
    assert r"_\udce4.jpg" in (tmp_path / "out" / "queries.csv").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "report.html").is_file()


def test_rerun_with_reranking_says_what_is_not_reranked(testing):
    assert any("before re-ranking" in note for note in testing({"TEST.RE_RANKING": True})["notes"])

"""The demonstration: what it prints and leaves behind, and that training shows."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

import svllreid
from svllreid.cli.main import run
from svllreid.jobs import demo
from svllreid.jobs.demo_gallery import OPENING
from svllreid.types import Sample


def demonstrate(folder, identities, monkeypatch):
    arguments = ["svllreid", "demo", str(folder), "--identities", str(identities)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 0


def test_table_metrics_and_picture(tmp_path, monkeypatch, capsys):
    short = {"SOLVER.STAGE1.MAX_EPOCHS": 1, "SOLVER.STAGE2.MAX_EPOCHS": 1, "SOLVER.STAGE2.STEPS": [1]}
    short |= {"INPUT.SIZE_TRAIN": [48, 24], "INPUT.SIZE_TEST": [48, 24]}
    load = demo.load_config
    monkeypatch.setattr(demo, "load_config", lambda path, changes: load(path, {**changes, **short}))
    mine = tmp_path / "demo" / "data" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    demonstrate(tmp_path / "demo", 8, monkeypatch)
    printed = capsys.readouterr().out
    rows = re.findall(r"(raw pixels|before training|after both stages)\D+([\d.]+) %\D+([\d.]+) %", printed)
    assert [name for name, _, _ in rows] == ["raw pixels", "before training", "after both stages"]
    metrics = json.loads((tmp_path / "demo" / "run" / "metrics.json").read_text())
    assert rows[2][1:] == (f"{100 * metrics['mAP']:.1f}", f"{100 * metrics['rank1']:.1f}")
    with Image.open(tmp_path / "demo" / "run" / "ranklist.png") as picture:
        assert min(picture.size) > 100
    assert "rendered-people" in (tmp_path / "demo" / "run" / "config.yml").read_text()

    check_gallery(printed, 8)

    def train_again(config, options, console):
        assert options.fresh
        return metrics

    monkeypatch.setattr(demo, "train", train_again)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    demonstrate(tmp_path / "demo", 9, monkeypatch)  # starts over
    assert len(list((tmp_path / "demo").rglob("bounding_box_train/*.jpg"))) == 9 * 4 * 3
    assert mine.read_bytes() == b"mine"
    captured = capsys.readouterr()
    assert "in a browser: svllreid" not in captured.out and "svllreid[search]" in " ".join(captured.err.split())


def test_a_gallery_of_images_is_not_replaced(tmp_path, monkeypatch, capsys):
    mine = tmp_path / "gallery" / "anna" / "anna_c1.jpg"  # as the folders of own data are called
    mine.parent.mkdir(parents=True)
    mine.touch()
    monkeypatch.setattr(sys, "argv", ["svllreid", "demo", str(tmp_path), "--identities", "8"])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 2 and "no demonstration made it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"] and mine.exists()


def check_gallery(printed, identities):
    """The command that the demonstration names serves a gallery of the test people, each in front of every camera."""
    words = shlex.split(re.search(r"look at it in a browser: (svllreid serve .*)", printed)[1])
    assert words[2:5:2] == ["--gallery", "--weights"] and Path(words[5]).is_file()
    with svllreid.Gallery(words[3]) as gallery:
        crops = list(gallery.crops())
        assert gallery.thumbnails.size()[0] == len(crops) == identities * 4 * 2
    assert len({(crop.pid, crop.camid) for crop in crops}) == identities * 4
    assert all(OPENING < crop.time < OPENING + 9 * 3600 for crop in crops)


def test_raw_pixels(tmp_path):
    Image.new("RGB", (20, 40), (90, 60, 30)).save(tmp_path / "a.png")
    features = demo.raw_pixels([Sample(tmp_path / "a.png", 7)], (4, 2))
    assert features.shape == (1, 24)
    assert features.norm().item() == pytest.approx(1)


@pytest.mark.slow
def test_training_shows(tmp_path):
    """The figures that the README gives, with room for another machine's arithmetic."""
    rows = demo.run_demo(tmp_path, identities=32, seed=0).rows
    raw, before, after = (rows[name]["mAP"] for name in ("raw pixels", "before training", "after both stages"))
    assert raw < 0.15 < before < 0.4 < after

"""Every command of docs/reproduce.md runs: the six layouts with drawn images, a small model, one step a stage."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from svllreid.cli.main import run

from .conftest import draw_person, write_market

TEXT = (Path(__file__).parents[1] / "docs" / "reproduce.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
PEOPLE, CAMERAS, SHOTS = 4, 2, 3


def save(path: Path, pid: int, shot: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_person(pid, shot).save(path)


def write_msmt17(base: Path) -> None:
    lines: dict[str, list[str]] = {name: [] for name in ("train", "val", "query", "gallery")}
    for pid in range(PEOPLE):
        for part in ("train", "test"):
            for camera in range(CAMERAS):
                for shot in range(SHOTS):
                    name = f"{pid:04d}/{pid:04d}_{shot:03d}_{camera + 1:02d}_0303morning_{shot:04d}_0.jpg"
                    save(base / part / name, pid + PEOPLE * (part == "test"), 10 * camera + shot)
                    split = "train" if part == "train" else ("query" if shot == 0 else "gallery")
                    lines[split].append(f"{name} {pid}\n")
    lines["val"] = [lines["train"].pop()]
    for name, found in lines.items():
        (base / f"list_{name}.txt").write_text("".join(found))


def write_veri(base: Path) -> None:
    views = []
    for part, first in (("train", 1), ("query", 1 + PEOPLE), ("test", 1 + PEOPLE)):
        for pid in range(first, first + PEOPLE):
            for camera in range(1, CAMERAS + 1):
                for shot in range(1 if part == "query" else SHOTS):
                    name = f"image_{part}/{pid:04d}_c{camera:03d}_{shot:08d}_{'0' if part != 'query' else '9'}.jpg"
                    save(base / name, pid, 10 * camera + shot)
                    views.append((part, f"{name} {shot % 3}\n"))
    for kind in ("train", "test"):
        chosen = [line for part, line in views if (part == "train") == (kind == "train")]
        (base / f"keypoint_{kind}.txt").write_text("".join(chosen))


def write_vehicleid(base: Path) -> None:
    lists: dict[str, list[str]] = {"train_list": [], "test_list_800": []}
    for vehicle in range(1, 1 + 2 * PEOPLE):
        for shot in range(4):
            name = f"{vehicle:04d}{shot}"
            save(base / "image" / f"{name}.jpg", vehicle, shot)
            lists["train_list" if vehicle <= PEOPLE else "test_list_800"].append(f"{name} {vehicle}\n")
    lists["test_list_1600"] = lists["test_list_2400"] = lists["test_list_800"]
    for name, lines in lists.items():
        path = base / "train_test_split" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    data = write_market(folder / "data", people=PEOPLE)
    market = data / "Market-1501-v15.09.15"
    for name in ("DukeMTMC-reID", "Occluded_Duke"):
        for image in market.rglob("*.jpg"):
            pid, camera, shot, _ = image.stem.split("_")
            target = data / "dukemtmcreid" / name / image.parent.name / f"{pid}_{camera[:2]}_f{shot}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
    write_msmt17(data / "MSMT17")
    write_veri(data / "VeRi")
    write_vehicleid(data / "VehicleID_V1.0")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, workplace, small_arguments, monkeypatch, capsys):
    words = shlex.split(command)[1:]
    # Side information and datasets stay as the command and its file have them.
    small = [word for word in small_arguments if not word.startswith(("DATASETS.", "MODEL.USE_", "MODEL.SIE_"))]
    if words[0] in ("train", "bench"):
        words += small
    if words[0] == "train" and "--max-steps" not in words:
        words += ["--max-steps", "1"]
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", ["svllreid", *words])
    with pytest.raises(SystemExit) as end:
        run()
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    assert "Traceback" not in captured.err


def test_the_reported_accuracies_are_those_of_the_list():
    listed = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    names = {"MSMT17": "msmt17", "Market-1501": "market1501", "DukeMTMC-reID": "dukemtmc", "Occluded-Duke": "occ_duke"}
    names["VeRi-776"] = "veri"
    rows = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \| ([\d.]+) \| no \|$", TEXT, re.M)
    assert {row[0] for row in rows} == set(names)
    for name, map_, rank1 in rows:
        assert re.search(rf"`clipreid-vit-sie-olp-{names[name]}` .*\| {map_} \| {rank1} \|", listed)

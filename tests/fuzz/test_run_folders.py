"""Files of a training run damaged, cut, emptied or gone: the same command continues, or says what is wrong."""

import json
import random
import shutil

import pytest
from campaign import snapshot
from command_line import call, check_call
from damage import damaged, odd_json

pytestmark = pytest.mark.slow
KEPT = ("log.txt", "scalars.csv", "events.out.tfevents")  # which every start of a run goes on writing


@pytest.fixture(scope="module")
def sources(run_folder):
    """Files that damage mixes with others."""
    return [run_folder / name for name in ("tiny_1.json", "config.yml", "state/stage1.pt")]


def test_damaged_runs(campaign, words, run_folder, sources, tmp_path):
    others = [file.read_bytes() for file in sources]
    files = sorted(file.relative_to(run_folder) for file in run_folder.rglob("*") if file.is_file())
    files += [file for file in files if file.suffix == ".json"]
    folder, tested = tmp_path / "run", tmp_path / "tested"
    train = ["train", *words, "--device", "cpu", "OUTPUT_DIR", str(folder)]
    commands = {
        "the same command": train,
        "another epoch": [*train, "SOLVER.STAGE2.MAX_EPOCHS=2", "--allow-config-change"],
        "stage 2 anew": [*train, "--stage", "2", "--fresh"],
        "test": ["test", "TEST.WEIGHT", str(folder / "tiny_1.pth"), "OUTPUT_DIR", str(tested), "--device", "cpu"],
    }
    with campaign("files of a training run", memory=1 << 30) as run:
        for number in range(120):
            draw = random.Random(f"run {number}")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(run_folder, folder)
            name, command = draw.choice(files), draw.choice(sorted(commands))
            if draw.random() < 0.2:
                (folder / name).unlink()
            elif name.suffix == ".json" and draw.random() < 0.7:
                content = odd_json(draw, json.loads((folder / name).read_text()))
                (folder / name).write_text(json.dumps(content))
            else:
                (folder / name).write_bytes(damaged(draw, (folder / name).read_bytes(), others))
            case = f"run {number}, {command}, {name}"
            before = snapshot(folder)
            with run.attempt(case):
                check_call(run, case, call(commands[command]), folder, before, KEPT)
    assert run.outcomes["accepted"] > 30

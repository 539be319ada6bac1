"""The ablation's rows are configurations that load, share first stages rightly, and are summed up rightly."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from svllreid import load_config

from ..conftest import SMALL

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import ablation

    return ablation


def test_every_row_is_a_configuration(ablation):
    for row, changes in ablation.ROWS.items():
        config = load_config(ablation.CONFIG, changes)
        assert config.model.name == "tiny", row
    changed = [str(sorted(changes.items())) for row, changes in ablation.ROWS.items() if row not in ablation.MAIN]
    assert len(set(changed)) == len(changed)


def test_rows_share_a_first_stage_only_where_it_is_the_same(ablation, tmp_path):
    places = ablation.Places(tmp_path / "people", None, tmp_path)

    def place(row, seed=1):
        return ablation.Run("synthetic", row, seed).stage1_folder(places)

    assert place("both: SVLL-ReID") == place("+ language self-supervision") == place("SimSiam instead of SimCLR")
    assert place("CLIP-ReID (both switches off)") == place("+ vision self-supervision")
    alone = {place(row) for row in ("both: SVLL-ReID", "+ vision self-supervision", "prompts: mix 0.5", "stride 12")}
    assert len(alone) == 4
    assert place("both: SVLL-ReID", seed=2) != place("both: SVLL-ReID")


def test_a_line_is_of_one_configuration_and_one_set(ablation, tmp_path, monkeypatch):
    run = ablation.Run("real", "both: SVLL-ReID", 1)
    here, there = (ablation.Places(tmp_path / "people", tmp_path / name, tmp_path / name) for name in ("a", "b"))
    assert run.made_of(here) == run.made_of(there)
    others = [
        ablation.Run("synthetic", run.row, 1),
        ablation.Run("real", run.row, 2),
        ablation.Run("real", "stride 12", 1),
    ]
    assert len({other.made_of(here) for other in (run, *others)}) == 4
    before = run.made_of(here)
    monkeypatch.setattr(ablation, "TINY_CLIP", "another")
    assert run.made_of(here) != before


def test_runs_are_made_once(ablation, tmp_path, market, monkeypatch):
    load = ablation.load_config
    monkeypatch.setattr(ablation, "load_config", lambda path, changes: load(path, {**SMALL, **changes}))
    run, places = ablation.Run("real", "CLIP-ReID (both switches off)", 1), ablation.Places(tmp_path, market, tmp_path)
    ablation.run_stage1(run, places)
    line = ablation.run_row(run, places)
    assert 0 < line["mAP"] <= 1 and line["mAP_low"] <= line["mAP"] <= line["mAP_high"]
    assert -1 <= line["prompt_similarity"] <= 1
    assert not run.folder(places).exists()
    ablation.write(tmp_path / "ablation.csv", [line])
    monkeypatch.setattr(ablation, "run_row", lambda run, places: pytest.fail("it is there already"))
    (found,) = ablation.run_all([run], places, jobs=1)
    assert float(found["mAP"]) == line["mAP"]


def test_sweeps_bring_what_they_are_compared_with(ablation):
    runs = ablation.chosen_runs(["sweeps"], ["synthetic", "real"], 5, 2)
    assert {run.seed for run in runs} == {1, 2} and {run.data for run in runs} == {"synthetic"}
    assert set(ablation.SWEEPS) <= {run.row for run in runs}
    assert len([run for run in ablation.chosen_runs(["main"], ["real"], 5, 3) if run.row == ablation.RAW]) == 1
    assert ablation.chosen_runs(["sweeps"], ["real"], 5, 3) == []


def test_report_of_lines(ablation, tmp_path):
    values = {"CLIP-ReID (both switches off)": (0.30, 0.40, 0.50), "both: SVLL-ReID": (0.33, 0.42, 0.54)}
    file = tmp_path / "lines.csv"
    with file.open("w", newline="") as stream:
        names = ["set", "row", "seed", "mAP", "rank1", "mAP_low", "mAP_high", "prompt_similarity"]
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        for row, found in values.items():
            for seed, value in enumerate(found, start=1):
                numbers = {"mAP": value, "rank1": value / 2, "mAP_low": 0.1, "mAP_high": 0.9, "prompt_similarity": 0.8}
                writer.writerow({"set": "synthetic", "row": row, "seed": seed, **numbers})
        empty = dict.fromkeys(("mAP_low", "mAP_high", "prompt_similarity"), "")
        writer.writerow({"set": "synthetic", "row": "raw pixels", "seed": 1, "mAP": 0.05, "rank1": 0.02, **empty})
    command = [sys.executable, str(FOLDER / "ablation.py"), "--report", str(file), "--output", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| CLIP-ReID (both switches off) | 3 | 40.0 ± 10.0 | 10 to 90 | 20.0 ± 5.0 |  |" in done.stdout
    # Differences 3, 2, 4: mean 3, half interval 4.303 * 1 / sqrt(3).
    assert "| both: SVLL-ReID | 3 | 43.0 ± 10.5 | 10 to 90 | 21.5 ± 5.3 | +3.0 ± 2.5 * |" in done.stdout
    assert "| raw pixels | 1 | 5.0 |  | 2.0 |  |" in done.stdout
    for picture in ("ablation_main.png", "ablation_differences.png"):
        assert (tmp_path / "new" / picture).stat().st_size > 5000

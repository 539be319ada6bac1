"""The ablation's rows are configurations that load, share first stages rightly, are made once, and add up rightly."""

import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from svllreid import load_config
from svllreid.errors import CheckpointError

from ..conftest import SMALL

FOLDER = Path(__file__).parents[2] / "benchmarks"
CLIPREID, LANGUAGE, VISION, BOTH = (
    "CLIP-ReID (both switches off)", "+ language self-supervision", "+ vision self-supervision", "both: SVLL-ReID",
)  # fmt: skip


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import ablation

    return ablation


@pytest.fixture
def places(ablation, tmp_path):
    contents = {"synthetic": "synthetic 1", "real": "real 1"}
    return ablation.Places({name: tmp_path / name for name in contents}, contents, tmp_path / "output")


@pytest.fixture
def made(ablation, monkeypatch):
    """Runs that cost nothing, in one process; a dictionary of rows says what fails. What was made, in order."""

    class Threads(ThreadPoolExecutor):
        def __init__(self, jobs, *_):
            super().__init__(jobs)

    done, fails = [], {}

    def run_stage1(run, places):
        done.append(("stage 1", *run.key))
        if run.row in fails:
            raise CheckpointError("the prompts broke")

    def run_row(run, places):
        done.append(run.key)
        numbers = {"mAP": 0.5, "rank1": 0.5, "mAP_low": "", "mAP_high": "", "prompt_similarity": ""}
        return {**dict(zip(("set", "row", "seed"), run.key, strict=True)), **numbers, "made_of": run.made_of(places)}

    monkeypatch.setattr(ablation, "ProcessPoolExecutor", Threads)
    monkeypatch.setattr(ablation, "run_stage1", run_stage1)
    monkeypatch.setattr(ablation, "run_row", run_row)
    return done, fails


def test_every_row_is_another_configuration(ablation):
    def resolved(row):
        return str(load_config(ablation.CONFIG, ablation.ROWS[row]).to_yaml_tree())

    trained = {row: resolved(row) for row in ablation.ROWS if row not in (ablation.RAW, ablation.UNTRAINED)}
    assert len(set(trained.values())) == len(trained) > 20


def test_rows_share_a_first_stage_only_where_it_is_the_same(ablation, places):
    def place(row, seed=1):
        return ablation.Run("synthetic", row, seed).stage1_config(places).output_dir

    assert place(BOTH) == place(LANGUAGE) == place("SimSiam instead of SimCLR")
    assert place(CLIPREID) == place(VISION)
    alone = {place(row) for row in (BOTH, VISION, "prompts: mix 0.5", "stride 12", "both, from random weights")}
    assert len(alone) == 5
    assert place(BOTH, seed=2) != place(BOTH)


def test_files_and_lines_are_of_one_configuration_and_one_set_of_images(ablation, places, tmp_path, monkeypatch):
    run = ablation.Run("real", BOTH, 1)

    def names(places, run=run):
        return run.made_of(places), Path(run.stage1_config(places).output_dir).name

    elsewhere = ablation.Places({"real": tmp_path / "moved"}, {"real": "real 1"}, tmp_path / "other")
    assert names(elsewhere) == names(places)
    changed = ablation.Places(places.roots, {"real": "real 2", "synthetic": "synthetic 1"}, places.output)
    found = [names(places), names(changed), names(places, ablation.Run("real", BOTH, 2))]
    found += [names(places, ablation.Run("synthetic", BOTH, 1)), names(places, ablation.Run("real", "stride 12", 1))]
    load = ablation.load_config
    with monkeypatch.context() as patch:
        longer = {"SOLVER.STAGE2.MAX_EPOCHS": 11}
        patch.setattr(ablation, "load_config", lambda path, changes: load(path, {**changes, **longer}))
        found.append(names(places))
    monkeypatch.setattr(ablation, "TINY_CLIP", "another")
    found.append(names(places))
    assert [len(set(column)) for column in zip(*found, strict=True)] == [7, 7]


def test_a_run(ablation, tmp_path, market, monkeypatch):
    load = ablation.load_config
    monkeypatch.setattr(ablation, "load_config", lambda path, changes: load(path, {**SMALL, **changes}))
    places = ablation.find_places(["real"], market, tmp_path)
    run = ablation.Run("real", CLIPREID, 1)
    ablation.run_stage1(run, places)
    line = ablation.run_row(run, places)
    assert (line["set"], line["row"], line["seed"]) == run.key  # as read from the table: reports compare them
    assert 0 < line["mAP"] <= 1 and line["mAP_low"] <= line["mAP"] <= line["mAP_high"]
    assert -1 <= line["prompt_similarity"] <= 1
    for row in (ablation.RAW, ablation.UNTRAINED):
        assert 0 < ablation.run_row(ablation.Run("real", row, 1), places)["mAP"] <= 1


def test_first_stages_come_before_the_rows_that_need_them_and_once(ablation, places, made):
    done, _ = made
    runs = ablation.chosen_runs(["main"], ["synthetic", "real"], 2, 1)
    lines, faults = ablation.run_all(runs, places, 2)
    assert len(lines) == len(runs) and not faults
    for run in runs:
        if run.prompted:
            mine = run.stage1_config(places).output_dir
            makers = [
                place
                for place, key in enumerate(done)
                if key[0] == "stage 1" and ablation.Run(*key[1:]).stage1_config(places).output_dir == mine
            ]
            assert len(makers) == 1 and makers[0] < done.index(run.key)
    assert done.index(("real", BOTH, "1")) < done.index(("real", "baseline without text", "2"))


def test_finished_lines_are_kept_and_stale_ones_made_again(ablation, places, made):
    done, _ = made
    one, other = ablation.Run("synthetic", CLIPREID, 1), ablation.Run("real", CLIPREID, 1)
    ablation.run_all([one], places, 1)
    ablation.run_all([other], places, 1)
    done.clear()
    lines, _ = ablation.run_all([one, other], places, 1)
    assert not done and [line["set"] for line in lines] == ["synthetic", "real"]
    moved = ablation.Places(places.roots, {**places.contents, "real": "real 2"}, places.output)
    ablation.run_all([one, other], moved, 1)
    assert done == [("stage 1", *other.key), other.key]
    assert len(ablation.read(places.output / "ablation.csv")) == 2


def test_a_finished_run_removes_its_own_files_alone(ablation, places, made):
    untrained, both = (ablation.Run("real", row, 1) for row in (ablation.UNTRAINED, BOTH))
    state = Path(both.config(places).output_dir) / "state.pt"  # of the same configuration as untrained features
    state.parent.mkdir(parents=True)
    state.write_bytes(b"half done")
    ablation.run_all([untrained], places, 1)
    assert state.exists()
    ablation.run_all([both], places, 1)
    assert not state.parent.exists()


def test_a_failure_costs_only_what_depends_on_it(ablation, places, made):
    _, fails = made
    fails[CLIPREID] = True
    runs = [ablation.Run("real", row, 1) for row in (CLIPREID, LANGUAGE, VISION)]
    lines, faults = ablation.run_all(runs, places, 1)
    assert [line["row"] for line in lines] == [LANGUAGE]
    assert faults == [f"real, {row}, seed 1: the prompts broke" for row in (CLIPREID, VISION)]
    fails.clear()
    lines, faults = ablation.run_all(runs, places, 1)
    assert len(lines) == 3 and not faults


def test_sweeps_bring_what_they_are_compared_with(ablation):
    runs = ablation.chosen_runs(["sweeps"], ["synthetic", "real"], 5, 2)
    assert {run.seed for run in runs} == {1, 2} and {run.data for run in runs} == {"synthetic"}
    assert set(ablation.SWEEPS) <= {run.row for run in runs}
    assert len([run for run in ablation.chosen_runs(["main"], ["real"], 5, 3) if run.row == ablation.RAW]) == 1


def write_lines(file, values):
    """A table of synthetic runs: mAP of each row by seed."""
    with file.open("w", newline="") as stream:
        names = ["set", "row", "seed", "mAP", "rank1", "mAP_low", "mAP_high", "prompt_similarity", "made_of"]
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        for row, found in values.items():
            for seed, value in enumerate(found, start=1):
                numbers = {"mAP": value, "rank1": value / 2, "mAP_low": 0.1, "mAP_high": 0.9, "prompt_similarity": 0.8}
                if row == "raw pixels":
                    numbers |= dict.fromkeys(("mAP_low", "mAP_high", "prompt_similarity"), "")
                writer.writerow({"set": "synthetic", "row": row, "seed": seed, **numbers, "made_of": "abc"})


def test_report_of_lines(ablation, tmp_path, monkeypatch, capsys):
    file = tmp_path / "lines.csv"
    swept = {"stride 12": (0.5, 0.6)}
    write_lines(file, {CLIPREID: (0.3, 0.4, 0.5), BOTH: (0.33, 0.42, 0.54), "raw pixels": (0.05,), **swept})
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--report", str(file), "--output", str(tmp_path / "new")])
    ablation.main()
    out = capsys.readouterr().out
    assert f"| {CLIPREID} | 3 | 40.0 ± 10.0 | 10 to 90 | 20.0 ± 5.0 |  |" in out
    # Differences 3, 2, 4: mean 3, half interval 4.303 * 1 / sqrt(3).
    assert f"| {BOTH} | 3 | 43.0 ± 10.5 | 10 to 90 | 21.5 ± 5.3 | +3.0 ± 2.5 * |" in out
    assert "| raw pixels | 1 | 5.0 |  | 2.5 |  |" in out
    # The sweep has two seeds, so what it is compared with shows those two: 17 and 18 points.
    assert f"| {BOTH} | 2 | 37.5 ± 6.4 | 10 to 90 | 18.8 ± 3.2 |  |" in out
    assert "| stride 12 | 2 | 55.0 ± 7.1 | 10 to 90 | 27.5 ± 3.5 | +17.5 ± 6.4 * |" in out
    for picture in ("ablation_main.png", "ablation_differences.png"):
        assert (tmp_path / "new" / picture).stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--report", "nowhere.csv"], "cannot read nowhere.csv: No such file or directory"),
        (["--report", "empty.csv"], "empty.csv has no lines of an ablation"),
        (["--sets", "real"], "the real set needs --real ROOT_DIR"),
        (["--sets", "real", "--real", "nowhere"], "nowhere"),
        (["--sets", "real", "--rows", "sweeps", "--real", "nowhere"], "the sweeps run on the synthetic set"),
    ],
)
def test_what_is_wrong_is_told_at_the_start(ablation, arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    monkeypatch.setattr(sys, "argv", ["ablation.py", *arguments])
    with pytest.raises(SystemExit) as end:
        ablation.main()
    assert end.value.code == 2 and told in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()

"""The ablation's rows are configurations that load, share first stages rightly, and are summed up rightly."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from svllreid import load_config

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
    def place(row, seed=1):
        return ablation.Run("synthetic", row, seed).stage1_folder(tmp_path)

    assert place("both: SVLL-ReID") == place("+ language self-supervision") == place("SimSiam instead of SimCLR")
    assert place("CLIP-ReID (both switches off)") == place("+ vision self-supervision")
    alone = {place(row) for row in ("both: SVLL-ReID", "+ vision self-supervision", "prompts: mix 0.5", "stride 12")}
    assert len(alone) == 4
    assert place("both: SVLL-ReID", seed=2) != place("both: SVLL-ReID")


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
    command = [sys.executable, str(FOLDER / "ablation.py"), "--report", str(file), "--output", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| CLIP-ReID (both switches off) | 3 | 40.0 ± 10.0 | 10 to 90 | 20.0 ± 5.0 |  |" in done.stdout
    # Differences 3, 2, 4: mean 3, half interval 4.303 * 1 / sqrt(3).
    assert "| both: SVLL-ReID | 3 | 43.0 ± 10.5 | 10 to 90 | 21.5 ± 5.3 | +3.0 ± 2.5 * |" in done.stdout
    for picture in ("ablation_main.png", "ablation_differences.png"):
        assert (tmp_path / "new" / picture).stat().st_size > 5000

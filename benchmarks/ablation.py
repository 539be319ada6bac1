"""What each part of the method adds: the tiny model on hard synthetic people and on real ones, several seeds a row.

    python benchmarks/ablation.py --real ROOT_DIR [--jobs 2]         # all rows on both sets, then tables and plots
    python benchmarks/ablation.py --rows main --sets synthetic --seeds 2
    python benchmarks/ablation.py --report benchmarks/ablation.csv   # tables and plots of runs made before

ROOT_DIR holds a Market-1501-v15.09.15 folder. Every finished run is a line of OUTPUT/ablation.csv, and is not made
again while its configuration, data and tiny CLIP stay the same; an interrupted call continues where it stopped. Rows
whose first stage is the same share it (drawn without stage 2's head, so a row that has one ends elsewhere than
`svllreid train` with the same seed). `--jobs N` runs N at a time, each on its share of the cores. Differences are
paired: of the same seed, so of the same batches; intervals are of Student's t over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from ablation_report import report
from ablation_rows import MAIN, RAW, ROWS, SWEEPS, UNTRAINED
from rich.console import Console
from rich.progress import track

from svllreid import build, load_config
from svllreid.config import Config
from svllreid.data.synthetic import synthesize
from svllreid.files import write_beside
from svllreid.jobs.demo import measure_raw_pixels, measure_untrained
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train
from svllreid.models.clip import SHIPPED

CONFIG = "person/tiny_svllreid.yml"
# A third less than the file's, so that all rows take two hours; evaluated once, at the end.
SHORTER = {"SOLVER.STAGE2.MAX_EPOCHS": 10, "SOLVER.STAGE2.STEPS": [7, 9], "SOLVER.STAGE2.EVAL_PERIOD": 1000}
# Two people share each outfit, and the six cameras turn colours, as none did that the tiny CLIP saw.
SYNTHETIC = {
    "identities": 40, "seed": 77, "cameras": 6, "images_per_camera": 2, "alike": 2, "hue": 90, "size": (96, 48),
}  # fmt: skip
TINY_CLIP = hashlib.sha256(SHIPPED["tiny"]["rendered-people"].read_bytes()).hexdigest()[:12]
# What stage 1 does not see.
LATER = (
    "SOLVER.STAGE2.",
    "MODEL.USE_SSL",
    "MODEL.SSL_TYPE",
    "MODEL.ID_LOSS_WEIGHT",
    "MODEL.I2T_LOSS_WEIGHT",
    "INPUT.RE_",
)
Line = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """Where the sets and the runs are.

    Args:
        synthetic, real: DATASETS.ROOT_DIR of each set.
        output: of everything that is made.
    """

    synthetic: Path
    real: Path | None
    output: Path


@dataclass(frozen=True)
class Run:
    """One row on one set with one seed."""

    data: str
    row: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What its line is found by."""
        return self.data, self.row, self.seed

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return self.row not in (RAW, UNTRAINED)

    @property
    def prompted(self) -> bool:
        """Whether it has a first stage."""
        return self.trained and ROWS[self.row].get("MODEL.USE_TEXT", True)

    def config(self, places: Places) -> Config:
        """What the row is trained by."""
        return self._load(places, self.folder(places), ROWS[self.row])

    def stage1_config(self, places: Places) -> Config:
        """What its first stage is trained by."""
        return self._load(places, self.stage1_folder(places), {**self._early(), "MODEL.USE_SSL": False})

    def folder(self, places: Places) -> Path:
        """Where its files are."""
        return places.output / TINY_CLIP / self.data / _file_name(self.row) / str(self.seed)

    def stage1_folder(self, places: Places) -> Path:
        """Where its first stage is, which other rows may share."""
        name = _file_name("stage1 " + json.dumps(self._early()))
        return places.output / TINY_CLIP / self.data / name / str(self.seed)

    def made_of(self, places: Places) -> str:
        """Differs where configuration, data or tiny CLIP do."""
        tree = self.config(places).model_copy(update={"output_dir": ""}).to_yaml_tree()
        tree["DATASETS"]["ROOT_DIR"] = str(SYNTHETIC) if self.data == "synthetic" else self.data
        return hashlib.sha256(json.dumps([tree, TINY_CLIP], sort_keys=True).encode()).hexdigest()[:12]

    def _early(self) -> dict[str, Any]:
        """What the row changes that the first stage sees."""
        changes = ROWS[self.row]
        seen = {
            key: value for key, value in changes.items() if key == "MODEL.USE_SSL_STAGE1" or not key.startswith(LATER)
        }
        return dict(sorted(seen.items()))

    def _load(self, places: Places, folder: Path, changes: dict[str, Any]) -> Config:
        root = places.synthetic if self.data == "synthetic" else places.real
        place = {"DATASETS.ROOT_DIR": str(root), "OUTPUT_DIR": str(folder), "SOLVER.SEED": self.seed}
        return load_config(CONFIG, {**place, **SHORTER, **changes})


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in text).strip("_")


def run_stage1(run: Run, places: Places) -> None:
    """Train the prompts."""
    train(run.stage1_config(places), Options(device="cpu", stage=1), Console(quiet=True))


def run_row(run: Run, places: Places) -> Line:
    """Train the images against the prompts, or measure what is not trained; the run's line."""
    config, folder, quiet = run.config(places), run.folder(places), Console(quiet=True)
    if run.row == RAW:
        metrics = measure_raw_pixels(build.build_splits(config))
    elif run.row == UNTRAINED:
        metrics = measure_untrained(config, build.build_splits(config), quiet)
    else:
        options = Options(device="cpu")
        if run.prompted:
            weights = run.stage1_folder(places) / f"tiny_stage1_{config.solver.stage1.max_epochs}.pth"
            options = Options(device="cpu", stage=2, stage1_weights=weights)
        metrics = train(config, options, quiet) or {}
        shutil.rmtree(folder)  # a hundred runs would fill the disk
    low, high = metrics.get("confidence", {}).get("mAP", ("", ""))
    line = {"set": run.data, "row": run.row, "seed": run.seed, "mAP": metrics["mAP"], "rank1": metrics["rank1"]}
    similarity = _prompt_similarity(run.stage1_folder(places)) if run.prompted else ""
    return {**line, "mAP_low": low, "mAP_high": high, "prompt_similarity": similarity, "made_of": run.made_of(places)}


def _prompt_similarity(folder: Path) -> float:
    with (folder / "scalars.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "eval/prompt_similarity"][-1]


def start_worker(threads: int) -> None:
    """Give a process its share of the cores."""
    torch.set_num_threads(threads)


def run_all(runs: Sequence[Run], places: Places, jobs: int) -> list[Line]:
    """The line of every run: those of the table that are still right, and the others made now."""
    table = places.output / "ablation.csv"
    known = {(line["set"], line["row"], int(line["seed"])): line for line in read(table)} if table.is_file() else {}
    known = {run.key: known[run.key] for run in runs if known.get(run.key, {}).get("made_of") == run.made_of(places)}
    todo = [run for run in runs if run.key not in known]
    first = {run.stage1_folder(places): run for run in todo if run.prompted}
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # several processes that spin would take each other's cores
    threads, console = max(1, (os.cpu_count() or 1) // jobs), Console(stderr=True)
    with ProcessPoolExecutor(jobs, get_context("spawn"), start_worker, (threads,)) as pool:
        done = pool.map(partial(run_stage1, places=places), first.values())
        for _ in track(done, "first stages", total=len(first), console=console):
            pass
        lines = pool.map(partial(run_row, places=places), todo)
        for line in track(lines, "rows", total=len(todo), console=console):
            known[line["set"], line["row"], line["seed"]] = line
            write(table, list(known.values()))
    return [known[run.key] for run in runs]


def read(file: Path) -> list[Line]:
    """Lines of a table."""
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write(file: Path, lines: Sequence[Line]) -> None:
    """Write a table."""
    with write_beside(file) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def chosen_runs(rows: Sequence[str], sets: Sequence[str], seeds: int, sweep_seeds: int) -> list[Run]:
    """Seed by seed, so that an interrupted call leaves whole comparisons; a sweep brings the row it changes."""
    runs: list[Run] = []
    if "main" in rows:
        runs += [Run(data, row, seed) for seed in range(1, seeds + 1) for data in sets for row in MAIN]
    if "sweeps" in rows and "synthetic" in sets:
        swept = [row for reference, sweep in SWEEPS.items() for row in (reference, *sweep)]
        runs += [Run("synthetic", row, seed) for seed in range(1, sweep_seeds + 1) for row in swept]
    return [run for run in dict.fromkeys(runs) if run.row != RAW or run.seed == 1]


def main() -> None:
    """Run what was asked for, then write tables and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="ROOT_DIR", help="holds Market-1501-v15.09.15")
    parser.add_argument("--sets", nargs="+", choices=("synthetic", "real"), default=["synthetic", "real"])
    parser.add_argument("--rows", nargs="+", choices=("main", "sweeps"), default=["main", "sweeps"])
    counts = {"type": int, "choices": range(1, 11), "metavar": "N"}
    parser.add_argument("--seeds", default=5, help="of the main rows, 1 to 10", **counts)
    parser.add_argument("--sweep-seeds", default=3, help="of the sweeps, on the synthetic set alone", **counts)
    parser.add_argument("--jobs", default=1, help="runs at a time", **counts)
    parser.add_argument("--output", type=Path, default=Path("outputs/ablation"))
    parser.add_argument("--report", type=Path, metavar="FILE.csv", help="tables and plots of these lines alone")
    arguments = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:  # told now, not after all runs
        parser.error("the plots need matplotlib; install it with: pip install 'svllreid[viz]'")
    if arguments.report:
        print(report(read(arguments.report), arguments.output))
        return
    if "real" in arguments.sets and not arguments.real:
        parser.error("the real set needs --real ROOT_DIR; or name --sets synthetic")
    runs = chosen_runs(arguments.rows, arguments.sets, arguments.seeds, arguments.sweep_seeds)
    if not runs:
        parser.error("the sweeps run on the synthetic set: name it with --sets")
    people = arguments.output / f"people_{hashlib.sha256(str(SYNTHETIC).encode()).hexdigest()[:8]}"
    if "synthetic" in arguments.sets and not any(people.glob("Market*")):
        synthesize(people, **SYNTHETIC)
    print(report(run_all(runs, Places(people, arguments.real, arguments.output), arguments.jobs), arguments.output))


if __name__ == "__main__":
    main()

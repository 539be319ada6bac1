"""What each part of the method adds: the tiny model on hard synthetic people and on real ones, several seeds a row.

    python benchmarks/ablation.py --real ROOT_DIR [--jobs 2]         # all rows on both sets, then tables and plots
    python benchmarks/ablation.py --rows main --sets synthetic --seeds 2
    python benchmarks/ablation.py --report benchmarks/ablation.csv   # tables and plots of runs made before

ROOT_DIR holds a Market-1501-v15.09.15 folder. An interrupted call continues where it stopped: every run has a folder,
and rows whose first stage is the same share it (drawn without stage 2's head, so a row that has one ends elsewhere than
`svllreid train` with the same seed). `--jobs N` runs N at a time, each on its share of the cores.
Differences are paired: of the same seed, so of the same batches; intervals are of Student's t over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
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
from svllreid.errors import ConfigError
from svllreid.files import write_json
from svllreid.jobs.demo import measure_raw_pixels, measure_untrained
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train
from svllreid.models.clip import SHIPPED

CONFIG = "person/tiny_svllreid.yml"
# Three people share each outfit, so that small things decide; six cameras.
SYNTHETIC = {"identities": 60, "seed": 77, "cameras": 6, "images_per_camera": 2, "alike": 3, "size": (96, 48)}
# What stage 1 does not see.
LATER = (
    "SOLVER.STAGE2.",
    "MODEL.USE_SSL",
    "MODEL.SSL_TYPE",
    "MODEL.ID_LOSS_WEIGHT",
    "MODEL.I2T_LOSS_WEIGHT",
    "INPUT.RE_",
)


@dataclass(frozen=True)
class Run:
    """One row on one set with one seed."""

    data: str
    row: str
    seed: int

    def folder(self, output: Path) -> Path:
        """Where its files are."""
        return output / self.data / _file_name(self.row) / str(self.seed)

    def stage1_folder(self, output: Path) -> Path:
        """Where its first stage is, which other rows may share."""
        return output / self.data / _file_name("stage1 " + json.dumps(self.stage1_changes())) / str(self.seed)

    def stage1_changes(self) -> dict[str, Any]:
        """What the row changes that the first stage sees."""
        kept = {
            key: value
            for key, value in ROWS[self.row].items()
            if key == "MODEL.USE_SSL_STAGE1" or not key.startswith(LATER)
        }
        return dict(sorted(kept.items()))

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return self.row not in (RAW, UNTRAINED)


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in text).strip("_")


def settings(run: Run, roots: dict[str, Path], folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """The run's overrides."""
    place = {"DATASETS.ROOT_DIR": str(roots[run.data]), "OUTPUT_DIR": str(folder), "SOLVER.SEED": run.seed}
    return {**place, "SOLVER.STAGE2.EVAL_PERIOD": 1000, **changes}


def claim(folder: Path, config: Config) -> None:
    """Note what a folder's numbers are of; ConfigError where it holds those of another configuration or tiny CLIP."""
    digest = hashlib.sha256(SHIPPED["tiny"]["rendered-people"].read_bytes()).hexdigest()
    content = {"config": config.to_yaml_tree(), "tiny_clip": digest, "people": {**SYNTHETIC, "size": [96, 48]}}
    file = folder / "made_of.json"
    if file.is_file() and json.loads(file.read_text()) != content:
        raise ConfigError(f"{folder} holds numbers of another configuration, set or tiny CLIP; remove it")
    write_json(file, content)


def run_stage1(run: Run, roots: dict[str, Path], output: Path) -> None:
    """Train the prompts."""
    folder = run.stage1_folder(output)
    config = load_config(CONFIG, settings(run, roots, folder, {**run.stage1_changes(), "MODEL.USE_SSL": False}))
    claim(folder, config)
    train(config, Options(device="cpu", stage=1), Console(quiet=True))


def run_row(run: Run, roots: dict[str, Path], output: Path) -> None:
    """Train the images against the prompts, or measure what is not trained."""
    folder, changes = run.folder(output), ROWS[run.row]
    config, quiet = load_config(CONFIG, settings(run, roots, folder, changes)), Console(quiet=True)
    claim(folder, config)
    if (folder / "metrics.json").is_file():
        return
    if not run.trained:
        splits = build.build_splits(config)
        metrics = measure_raw_pixels(splits) if run.row == RAW else measure_untrained(config, splits, quiet)
        write_json(folder / "metrics.json", metrics)
        return
    options = Options(device="cpu")
    if config.model.use_text:
        weights = run.stage1_folder(output) / f"tiny_stage1_{config.solver.stage1.max_epochs}.pth"
        options = Options(device="cpu", stage=2, stage1_weights=weights)
    train(config, options, quiet)
    shutil.rmtree(folder / "state")  # a hundred runs would fill the disk
    for file in folder.glob("*.pth"):
        file.unlink()


def collect(run: Run, output: Path) -> dict[str, Any]:
    """The run's line of the table."""
    metrics = json.loads((run.folder(output) / "metrics.json").read_text())
    low, high = metrics.get("confidence", {}).get("mAP", (float("nan"),) * 2)
    line = {"set": run.data, "row": run.row, "seed": run.seed, "mAP": metrics["mAP"], "rank1": metrics["rank1"]}
    line |= {"mAP_low": low, "mAP_high": high, "prompt_similarity": float("nan")}
    scalars = run.stage1_folder(output) / "scalars.csv"
    if run.trained and scalars.is_file():
        with scalars.open(newline="") as file:
            found = [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "eval/prompt_similarity"]
        line["prompt_similarity"] = found[-1]
    return line


def start_worker(threads: int) -> None:
    """Give a process its share of the cores."""
    torch.set_num_threads(threads)


def run_all(runs: Sequence[Run], roots: dict[str, Path], output: Path, jobs: int) -> None:
    """Run what is not done yet, first stages before the rows that need them."""
    first = {
        run.stage1_folder(output): run for run in runs if run.trained and ROWS[run.row].get("MODEL.USE_TEXT", True)
    }
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # several processes that spin would take each other's cores
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), start_worker, (threads,)) as pool:
        for work, chosen in ((run_stage1, list(first.values())), (run_row, list(runs))):
            done = pool.map(partial(work, roots=roots, output=output), chosen)
            for _ in track(done, work.__name__.replace("run_", ""), total=len(chosen), console=Console(stderr=True)):
                pass


def main() -> None:
    """Run what was asked for, then write lines, tables and plots."""
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
    if arguments.report:
        with arguments.report.open(newline="") as file:
            print(report(list(csv.DictReader(file)), arguments.output))
        return
    if "real" in arguments.sets and not arguments.real:
        parser.error("the real set needs --real ROOT_DIR; or name --sets synthetic")
    roots = {"synthetic": arguments.output / "people", "real": arguments.real}
    if "synthetic" in arguments.sets and not any(roots["synthetic"].glob("Market*")):
        synthesize(roots["synthetic"], **SYNTHETIC)
    runs: list[Run] = []
    if "main" in arguments.rows:
        seeds = range(1, arguments.seeds + 1)
        runs += [Run(data, row, seed) for seed in seeds for data in arguments.sets for row in MAIN]
    if "sweeps" in arguments.rows and "synthetic" in arguments.sets:
        seeds = range(1, arguments.sweep_seeds + 1)
        runs += [Run("synthetic", row, seed) for seed in seeds for of, sweep in SWEEPS.items() for row in (of, *sweep)]
    runs = [run for run in dict.fromkeys(runs) if run.row != RAW or run.seed == 1]
    if not runs:
        parser.error("the sweeps run on the synthetic set: name it with --sets")
    run_all(runs, roots, arguments.output, arguments.jobs)
    lines = [collect(run, arguments.output) for run in runs]
    with (arguments.output / "ablation.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    print(report(lines, arguments.output))


if __name__ == "__main__":
    main()

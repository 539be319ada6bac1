"""What each part of the method adds: the tiny model on hard synthetic people and on real ones, several seeds a row.

    python benchmarks/ablation.py --real ROOT_DIR [--jobs 2]         # all rows on both sets, then tables and plots
    python benchmarks/ablation.py --rows main --sets synthetic --seeds 2
    python benchmarks/ablation.py --report benchmarks/ablation.csv   # tables and plots of runs made before

ROOT_DIR holds a Market-1501-v15.09.15 folder. Every finished run is a line of OUTPUT/ablation.csv, and is not made
again while its configuration, its images and the tiny CLIP stay the same; an interrupted call continues where it
stopped. Rows whose first stage is the same share it (drawn without stage 2's head, so a row that has one ends elsewhere
than `svllreid train` with the same seed). `--jobs N` runs N at a time, each on its share of the cores. Differences are
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
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch
from ablation_report import Line, report
from ablation_rows import MAIN, RAW, ROWS, SWEEPS, UNTRAINED
from rich.console import Console
from rich.progress import Progress

from svllreid import build, load_config
from svllreid.config import Config
from svllreid.errors import ReidError
from svllreid.files import atomic_write
from svllreid.jobs.demo import measure_raw_pixels, measure_untrained
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train
from svllreid.models.pretrained import SHIPPED
from svllreid.rendered import synthesize
from svllreid.rendered.crowd import DRAWN_BY
from svllreid.runtime.interrupt import StopSignals

CONFIG = "person/tiny_svllreid.yml"
# Two people share each outfit, and the six cameras turn colours, as none did that the tiny CLIP saw.
SYNTHETIC = {
    "identities": 40, "seed": 77, "cameras": 6, "images_per_camera": 2, "alike": 2, "hue": 90, "size": (96, 48),
}  # fmt: skip
TINY_CLIP = hashlib.sha256(SHIPPED["tiny"]["rendered-people"].read_bytes()).hexdigest()
# What stage 1 does not see.
LATER = ("SOLVER.STAGE2.", "MODEL.USE_SSL", "MODEL.SSL_TYPE", "MODEL.I2T_LOSS_WEIGHT", "INPUT.RE_")
Task = tuple[Callable[["Run", "Places"], Any], "Run"]


@dataclass(frozen=True)
class Places:
    """Where the sets and the runs are.

    Args:
        roots: DATASETS.ROOT_DIR of each set.
        contents: of each set, what differs where its images do.
        output: of everything that is made.
    """

    roots: Mapping[str, Path]
    contents: Mapping[str, str]
    output: Path


@dataclass(frozen=True)
class Run:
    """One row on one set with one seed."""

    data: str
    row: str
    seed: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What its line is found by."""
        return self.data, self.row, str(self.seed)

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return self.row not in (RAW, UNTRAINED)

    @property
    def prompted(self) -> bool:
        """Whether it has a first stage."""
        return self.trained and ROWS[self.row].get("MODEL.USE_TEXT", True)

    def config(self, places: Places) -> Config:
        """What the row is trained by; OUTPUT_DIR is named by all that its numbers depend on."""
        return self._load(places, ROWS[self.row], "rows")

    def stage1_config(self, places: Places) -> Config:
        """What its first stage is trained by; the same OUTPUT_DIR for all rows that can share it."""
        changes = {
            key: value
            for key, value in ROWS[self.row].items()
            if key == "MODEL.USE_SSL_STAGE1" or not key.startswith(LATER)
        }
        return self._load(places, {**changes, "MODEL.USE_SSL": False}, "stage1")

    def made_of(self, places: Places) -> str:
        """Differs where configuration, images or tiny CLIP do."""
        return Path(self.config(places).output_dir).name

    def _load(self, places: Places, changes: Mapping[str, Any], kind: str) -> Config:
        place = {"DATASETS.ROOT_DIR": places.contents[self.data], "OUTPUT_DIR": ".", "SOLVER.SEED": self.seed}
        # Evaluated at the end alone.
        settings = {**place, "SOLVER.STAGE2.EVAL_PERIOD": 1000, **changes}
        tree = load_config(CONFIG, settings).to_yaml_tree()
        name = _digest(json.dumps([tree, TINY_CLIP], sort_keys=True))
        there = {"DATASETS.ROOT_DIR": str(places.roots[self.data]), "OUTPUT_DIR": str(places.output / kind / name)}
        return load_config(CONFIG, {**settings, **there})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_stage1(run: Run, places: Places) -> None:
    """Train the prompts."""
    train(run.stage1_config(places), Options(device="cpu", stage=1), Console(quiet=True))


def run_row(run: Run, places: Places) -> Line:
    """Train the images against the prompts, or measure what is not trained; the run's line."""
    config, quiet = run.config(places), Console(quiet=True)
    similarity: float | str = ""
    if run.row == RAW:
        metrics = measure_raw_pixels(build.build_splits(config))
    elif run.row == UNTRAINED:
        metrics = measure_untrained(config, build.build_splits(config), quiet)
    elif run.prompted:
        prompts = Path(run.stage1_config(places).output_dir)
        weights = prompts / f"tiny_stage1_{config.solver.stage1.max_epochs}.pth"
        metrics = train(config, Options(device="cpu", stage=2, stage1_weights=weights), quiet) or {}
        similarity = _prompt_similarity(prompts)
    else:
        metrics = train(config, Options(device="cpu"), quiet) or {}
    low, high = metrics.get("confidence", {}).get("mAP", ("", ""))
    line = {**dict(zip(("set", "row", "seed"), run.key, strict=True)), "mAP": metrics["mAP"], "rank1": metrics["rank1"]}
    return {**line, "mAP_low": low, "mAP_high": high, "prompt_similarity": similarity, "made_of": run.made_of(places)}


def _prompt_similarity(folder: Path) -> float:
    with (folder / "scalars.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "eval/prompt_similarity"][-1]


def start_worker(threads: int) -> None:
    """Give a process its share of the cores; Ctrl-C is for the process that it works for, which passes it on."""
    os.setpgrp()
    torch.set_num_threads(threads)


def work(runs: Sequence[Run], places: Places, jobs: int, finished: Callable[[Run, Line | ReidError], None]) -> None:
    """Make runs, several at a time, each after its first stage; `finished` gets each one's line or what went wrong.

    Raises: KeyboardInterrupt: a signal came; every process has saved what it was at.
    """
    needs = {run: run.stage1_config(places).output_dir for run in runs if run.prompted}
    makers = {folder: run for run, folder in reversed(needs.items())}  # of those that share it the first in line
    tasks: list[Task] = []
    for run in runs:
        if run in needs and makers[needs[run]] == run:
            tasks.append((run_stage1, run))
        tasks.append((run_row, run))
    made: set[str] = set()
    running: dict[Future[Any], Task] = {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), start_worker, (threads,)) as pool, StopSignals():
        try:
            while tasks or running:
                ready = [
                    (job, run) for job, run in tasks if job is run_stage1 or run not in needs or needs[run] in made
                ]
                for job, run in ready[: jobs - len(running)]:
                    tasks.remove((job, run))
                    running[pool.submit(job, run, places)] = job, run
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, run = running.pop(future)
                    error = future.exception()
                    if error and not isinstance(error, ReidError):
                        raise error
                    if job is run_row:
                        finished(run, error or future.result())
                    elif error is None:
                        made.add(needs[run])
                    else:
                        lost = [other for other, folder in needs.items() if folder == needs[run]]
                        tasks = [task for task in tasks if task[1] not in lost]
                        for other in lost:
                            finished(other, error)
        except KeyboardInterrupt:
            for process in active_children():
                process.terminate()
            raise


def run_all(runs: Sequence[Run], places: Places, jobs: int) -> tuple[list[Line], list[str]]:
    """The line of every run that succeeded, those of the table that are still right and the others made now; faults.

    Lines of other runs stay in the table.
    """
    table = places.output / "ablation.csv"
    lines = {(line["set"], line["row"], line["seed"]): line for line in read(table)} if table.is_file() else {}
    todo = [run for run in runs if lines.get(run.key, {}).get("made_of") != run.made_of(places)]
    faults: list[str] = []
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs", total=len(runs), completed=len(runs) - len(todo))

        def finished(run: Run, result: Line | ReidError) -> None:
            if isinstance(result, ReidError):
                lines.pop(run.key, None)
                faults.append(f"{run.data}, {run.row}, seed {run.seed}: {result}")
            else:
                lines[run.key] = result
                write(table, list(lines.values()))
                if run.trained:  # a hundred runs would fill the disk; others have no folder, but a trained row's name
                    shutil.rmtree(run.config(places).output_dir, ignore_errors=True)
            progress.advance(bar)

        work(todo, places, jobs, finished)
    return [lines[run.key] for run in runs if run.key in lines], faults


def read(file: Path) -> list[Line]:
    """Lines of a table."""
    try:
        with file.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
    except OSError as error:
        raise ReidError(f"cannot read {file}: {error.strerror}") from error
    if not lines or not {"set", "row", "seed", "mAP", "rank1", "made_of"} <= set(lines[0]):
        raise ReidError(f"{file} has no lines of an ablation: name the ablation.csv of an earlier call, or remove it")
    return lines


def write(file: Path, lines: Sequence[Line]) -> None:
    """Write a table."""
    with atomic_write(file) as temporary, temporary.open("w", newline="") as stream:
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


def find_places(sets: Sequence[str], real: Path | None, output: Path) -> Places:
    """Render the synthetic set where it is missing, and read both once, so that what is wrong is told at the start."""
    roots, contents = {}, {}
    if "synthetic" in sets:
        contents["synthetic"] = f"synthetic {_digest(str([SYNTHETIC, DRAWN_BY]))}"
        roots["synthetic"] = output / contents["synthetic"].replace(" ", "_")
        if not any(roots["synthetic"].glob("Market*")):
            synthesize(roots["synthetic"], **SYNTHETIC)
    if "real" in sets and real:
        files = sorted((str(file.relative_to(real)), file.stat().st_size) for file in real.glob("Market*/*/*.jpg"))
        roots["real"], contents["real"] = real, f"real {_digest(str(files))}"
    for root in roots.values():
        build.build_splits(load_config(CONFIG, {"DATASETS.ROOT_DIR": str(root)}))
    return Places(roots, contents, output)


def main() -> None:
    """Run what was asked for, then write tables and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="ROOT_DIR", help="holds Market-1501-v15.09.15")
    both = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument(
        "--sets", choices=("synthetic", "real"), default=["synthetic", "real"], help="synthetic, real (both)", **both
    )
    parser.add_argument(
        "--rows", choices=("main", "sweeps"), default=["main", "sweeps"], help="main, sweeps (both)", **both
    )
    counts = {"type": int, "choices": range(1, 11), "metavar": "N"}
    parser.add_argument("--seeds", default=5, help="of the main rows, 1 to 10 (5)", **counts)
    parser.add_argument("--sweep-seeds", default=3, help="of the sweeps, on the synthetic set alone (3)", **counts)
    parser.add_argument("--jobs", default=1, help="runs at a time (1)", **counts)
    parser.add_argument("--output", type=Path, default=Path("outputs/ablation"), help="folder (outputs/ablation)")
    parser.add_argument("--report", type=Path, metavar="FILE.csv", help="tables and plots of these lines alone")
    arguments = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:  # told now, not after all runs
        parser.error("the plots need matplotlib; install it with: pip install 'svllreid[viz]'")
    if "real" in arguments.sets and not (arguments.real or arguments.report):
        parser.error("the real set needs --real ROOT_DIR; or name --sets synthetic")
    runs = chosen_runs(arguments.rows, arguments.sets, arguments.seeds, arguments.sweep_seeds)
    if not runs:
        parser.error("the sweeps run on the synthetic set: name it with --sets")
    faults: list[str] = []
    try:
        if arguments.report:
            lines = read(arguments.report)
        else:
            places = find_places(arguments.sets, arguments.real, arguments.output)
            lines, faults = run_all(runs, places, arguments.jobs)
    except ReidError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
    if lines:
        print(report(lines, arguments.output))
    if faults:
        sys.exit("\n".join(["these runs failed, and are tried again by the same command:", *faults]))


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # several processes that spin would take each other's cores
    main()

"""What pretraining is worth on real people: both stages from the tiny CLIP and from random weights, beside raw pixels.

    python benchmarks/real_images.py ROOT_DIR [--seeds 3] [--output outputs/real_images]

ROOT_DIR holds a Market-1501-v15.09.15 folder. Both trained rows see the same images in the same batches for the same
epochs with the same settings. The last epoch is reported. An interrupted call continues where it stopped.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from svllreid import build, load_config
from svllreid.jobs.demo import measure_raw_pixels, measure_untrained
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train

STARTS = (("random weights", "random"), ("tiny CLIP", "rendered-people"))


def main() -> None:
    """Run every row for every seed and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT_DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("outputs/real_images"))
    arguments = parser.parse_args()
    console = Console(stderr=True)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for seed in range(1, arguments.seeds + 1):
        common = {"DATASETS.ROOT_DIR": str(arguments.root), "SOLVER.SEED": seed}
        for name, pretrained in STARTS:
            output = {"OUTPUT_DIR": str(arguments.output / f"{pretrained}_{seed}"), "MODEL.PRETRAINED": pretrained}
            config = load_config("person/tiny_svllreid.yml", {**common, **output})
            splits = build.build_splits(config)
            if not rows["raw pixels"]:
                rows["raw pixels"].append(measure_raw_pixels(splits))
            rows[f"{name}, before training"].append(measure_untrained(config, splits, console))
            rows[f"{name}, both stages"].append(train(config, Options(device="cpu"), console) or {})
    table = Table(title=f"mean and deviation over {arguments.seeds} seeds")
    for column in ("features", "mAP", "rank-1", "mAP of each seed"):
        table.add_column(column)
    for name, metrics in rows.items():
        values = {key: 100 * np.array([m[key] for m in metrics]) for key in ("mAP", "rank1")}
        cells = [f"{value.mean():.1f} ± {value.std(ddof=min(1, len(value) - 1)):.1f} %" for value in values.values()]
        table.add_row(name, *cells, ", ".join(f"{value:.1f}" for value in values["mAP"]))
    Console().print(table)


if __name__ == "__main__":
    main()

"""Identities from crops without labels: time and memory on drawn features, and agreement with hidden labels.

python benchmarks/clustering.py                           # 100,000 features of 384 numbers
python benchmarks/clustering.py --dim 1280 --method hdbscan
python benchmarks/clustering.py --features crops.parquet  # all of SETTINGS, on features with identities
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from svllreid.clustering.agreement import Agreement, agreement
from svllreid.clustering.cluster import ClusterOptions, cluster
from svllreid.evaluation.table_file import read_features

NOISE = 0.8
SETTINGS = [
    ClusterOptions(method, eps, least, k1, k2, centre)
    for least, k1, k2 in ((4, 30, 6), (4, 15, 4), (2, 4, 1))
    for centre in (False, True)
    for method, eps in (("dbscan", 0.3), ("dbscan", 0.4), ("dbscan", 0.5), ("dbscan", 0.6), ("hdbscan", 0.6))
]


def drawn(identities: int, images: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of unit length around a centre for each identity, in random order, and the identities."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((identities, dim), np.float32)
    pids = random.permutation(np.repeat(np.arange(identities), images))
    features = centres[pids]
    for part in np.array_split(features, 1 + len(features) // 8192):
        part += NOISE * random.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return features, pids.astype(str)


def gigabytes() -> float:
    """The largest memory of this process so far, in 10⁹ bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def speed(args: argparse.Namespace) -> None:
    """Time, memory and agreement on drawn features."""
    features, pids = drawn(args.identities, args.images, args.dim)
    print(f"{len(features)} features of {args.dim} numbers; memory before: {gigabytes():.2f} GB", flush=True)
    start, begun = time.perf_counter(), time.process_time()

    def progress(done: int, total: int) -> None:
        if done == total or 2 * done == total:
            seconds, cpu = time.perf_counter() - start, time.process_time() - begun
            print(f"  {seconds:.0f} s, of CPU {cpu:.0f} s: {done} of {total} ({gigabytes():.2f} GB)", flush=True)

    found = cluster(features, options=ClusterOptions(args.method, eps=args.eps), progress=progress)
    seconds, cpu = time.perf_counter() - start, time.process_time() - begun
    print(f"{args.method}: {seconds:.0f} s, of CPU {cpu:.0f} s, {gigabytes():.2f} GB, {found.count} clusters")
    show(args.method, agreement(found.labels, pids))


def show(name: str, measured: Agreement | None) -> None:
    """One line of the table."""
    if measured is None:
        raise SystemExit("the features have no identities to compare with")
    print(
        f"| {name} | {measured.identities} | {measured.clusters} | {measured.found} | {measured.unclustered} "
        f"| {measured.adjusted_rand_index:.3f} | {measured.precision:.3f} | {measured.recall:.3f} "
        f"| {measured.f1:.3f} |",
        flush=True,
    )


def quality(files: list[Path], split: str) -> None:
    """Agreement with the hidden labels of each file under each of SETTINGS."""
    print("| settings | identities | clusters | found | in none | ARI | precision | recall | F1 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for file in files:
        table, _ = read_features(file)
        rows = np.flatnonzero([not split or name in split.split(",") for name in table.columns["split"].tolist()])
        print(f"{file.name}: {len(rows)} images")
        columns = {name: values[rows] for name, values in table.columns.items()}
        for options in SETTINGS:
            found = cluster(
                table.vectors[rows], columns["camid"], columns["time"], columns["tracklet"], options=options
            )
            name = options.method + (f" {options.eps}" if options.method == "dbscan" else "")
            name += f", {options.min_samples} images, k1 {options.k1}, k2 {options.k2}" + (
                ", cameras centred" if options.centre_cameras else ""
            )
            show(name, agreement(found.labels, columns["pid"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=5000)
    parser.add_argument("--images", type=int, default=20, help="of each identity")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--method", default="dbscan")
    parser.add_argument("--eps", type=float, default=0.6)
    parser.add_argument("--features", type=Path, nargs="+", help="files that `svllreid embed` wrote, with identities")
    parser.add_argument("--split", default="", help="only these splits of the files, separated by commas")
    args = parser.parse_args()
    if args.features:
        quality(args.features, args.split)
    else:
        speed(args)


if __name__ == "__main__":
    main()

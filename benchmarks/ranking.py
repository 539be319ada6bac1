"""Speed and memory of ranking and re-ranking against plain versions, ratios taken within one run.

    python benchmarks/ranking.py [--quick] [--case NAME ...] [--repeats N] [--scratch DIR]

All features come from one seeded generator: 750 identities, 1280 dimensions, float32, noise that puts mAP near 0.6 at
Market-1501 size. Times are medians of interleaved runs; memory is the anonymous memory above that held before the call.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from svllreid.evaluation.ranking.distance import squared_euclidean
from svllreid.evaluation.ranking.measures import evaluate_features, evaluate_ranking
from svllreid.evaluation.ranking.rerank import RerankOptions, rerank

IDENTITIES, DIMENSIONS, NOISE = 750, 1280, 3.0
# queries, gallery; the second pair is for --quick
SIZES = {
    "market-distances": ((3368, 15913), (400, 4000)),
    "market-features": ((3368, 15913), (400, 4000)),
    "msmt17-features": ((11659, 82161), (800, 8000)),
    "million": ((1000, 1_000_000), (200, 20_000)),
    "rerank-8000": ((1000, 7000), (150, 1000)),
    "rerank-msmt17": ((11659, 82161), (400, 3000)),
}
HEAVY = ("million", "rerank-msmt17")


class Labelled:
    """Seeded features with identities and cameras.

    Args:
        num_queries, num_gallery: images of each side.
        folder: write the gallery to a memory map there instead of memory.
    """

    def __init__(self, num_queries: int, num_gallery: int, folder: Path | None = None) -> None:
        self.random = np.random.default_rng(1234)
        self.centres = self.random.standard_normal((IDENTITIES, DIMENSIONS), dtype=np.float32)
        self.q_pids, self.g_pids = (self.random.integers(0, IDENTITIES, n) for n in (num_queries, num_gallery))
        self.q_camids, self.g_camids = (self.random.integers(0, 6, n) for n in (num_queries, num_gallery))
        self.q_feats = np.empty((num_queries, DIMENSIONS), np.float32)
        shape = (num_gallery, DIMENSIONS)
        self.g_feats = np.empty(shape, np.float32) if folder is None else _mapped(folder / "gallery.f32", shape, "w+")
        self._fill(self.q_feats, self.q_pids)
        self._fill(self.g_feats, self.g_pids)
        if folder is not None:
            del self.g_feats
            self.g_feats = _mapped(folder / "gallery.f32", shape, "r")

    def _fill(self, features: np.ndarray, pids: np.ndarray) -> None:
        for start in range(0, len(features), 8192):
            part = pids[start : start + 8192]
            values = self.centres[part] + NOISE * self.random.standard_normal((len(part), DIMENSIONS), dtype=np.float32)
            features[start : start + 8192] = values / np.linalg.norm(values, axis=1, keepdims=True)

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.q_pids, self.g_pids, self.q_camids, self.g_camids


def _mapped(path: Path, shape: tuple[int, int], mode: Any) -> np.ndarray:
    return np.memmap(path, np.float32, mode, shape=shape)


def plain_distances(q_feats: np.ndarray, g_feats: np.ndarray) -> np.ndarray:
    """The whole matrix of squared Euclidean distances."""
    distances = (q_feats**2).sum(1)[:, None] + (g_feats**2).sum(1)
    distances -= 2 * (q_feats @ g_feats.T)
    return distances


def plain_ranking(
    distmat: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray, q_camids: np.ndarray, g_camids: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """CMC to rank 50, mAP and mINP by a stable argsort of the matrix and a loop over the queries."""
    order = np.argsort(distmat, axis=1, kind="stable")
    curves, precisions, penalties = [], [], []
    for query, row in enumerate(order):
        match = g_pids[row] == q_pids[query]
        match = match[~(match & (g_camids[row] == q_camids[query]))]
        if not match.any():
            continue
        found = match.cumsum()
        places = np.flatnonzero(match)
        curves.append(np.minimum(found[:50], 1))
        precisions.append((found[places] / (places + 1)).mean())
        penalties.append(found[-1] / (places[-1] + 1))
    return np.mean(curves, axis=0), float(np.mean(precisions)), float(np.mean(penalties))


def plain_rerank(
    q_feats: np.ndarray, g_feats: np.ndarray, k1: int = 50, k2: int = 15, weight: float = 0.3, kind: Any = np.float32
) -> np.ndarray:
    """k-reciprocal re-ranking with dense vectors and a loop over the images, from its definition."""
    features = np.concatenate([q_feats, g_feats]).astype(kind)
    distances = np.maximum(plain_distances(features, features), 0)
    np.fill_diagonal(distances, 0)
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(image: int, k: int) -> np.ndarray:
        forward = order[image, : k + 1]
        return forward[(order[forward, : k + 1] == image).any(axis=1)]

    vectors, inside = np.zeros_like(distances), np.zeros(len(features), bool)
    for image in range(len(features)):
        core = reciprocal(image, k1)
        inside[core] = True
        around = [reciprocal(other, round(k1 / 2)) for other in core]
        more = [others for others in around if 3 * np.count_nonzero(inside[others]) > 2 * len(others)]
        inside[core] = False
        chosen = np.unique(np.concatenate([core, *more]))
        values = np.exp(-distances[image, chosen])
        vectors[image, chosen] = values / values.sum()
    if k2 > 1:
        vectors = np.stack([vectors[row[:k2]].mean(axis=0) for row in order])
    return (1 - weight) * plain_jaccard(vectors, len(q_feats)) + weight * distances[: len(q_feats), len(q_feats) :]


def plain_jaccard(vectors: np.ndarray, num_queries: int) -> np.ndarray:
    """Jaccard distances (Nq, Ng) of dense vectors (N, N), by columns that are not zero."""
    holders = [np.flatnonzero(column) for column in vectors.T]
    result = np.empty((num_queries, len(vectors)), vectors.dtype)
    for query in range(num_queries):
        common = np.zeros(len(vectors), vectors.dtype)
        for column in np.flatnonzero(vectors[query]):
            rows = holders[column]
            common[rows] += np.minimum(vectors[query, column], vectors[rows, column])
        result[query] = 1 - common / (2 - common)
    return result[:, num_queries:]


def interleaved(repeats: int, *jobs: Callable[[], Any]) -> list[float]:
    """Median seconds of each job, the jobs taking turns."""
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeats):
        for job, taken in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


class AnonymousMemory:
    """Largest anonymous memory of this process inside a `with` block, in MB above that at its start."""

    def __enter__(self) -> AnonymousMemory:
        self.before = self.peak = self._now()
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.watcher.join()
        self.megabytes = (self.peak - self.before) / 1024

    def _watch(self) -> None:
        while not self.over.wait(0.005):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def measured(case: str, size: tuple[int, int], scratch: Path) -> dict[str, Any]:
    """Run our side of a case once in this (fresh) process: seconds, extra MB, mAP."""
    options = RerankOptions() if case.startswith("rerank") else None
    warm = Labelled(8, 64)
    evaluate_features(warm.q_feats, warm.g_feats, *warm.labels[:2], rerank=options)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        data = Labelled(*size, folder=Path(folder) if case == "million" else None)
        with AnonymousMemory() as memory:
            start = time.perf_counter()
            ranking = evaluate_features(data.q_feats, data.g_feats, *data.labels, rerank=options)
            seconds = time.perf_counter() - start
    return {"seconds": seconds, "extra_mb": memory.megabytes, "mean_ap": ranking.mean_ap}


def in_child(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """`measured` in a process of its own."""
    command = [sys.executable, __file__, "--child", case, "--scratch", str(args.scratch)]
    done = subprocess.run(command + ["--quick"] * args.quick, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def market_distances(size: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Ranking given distances."""
    data = Labelled(*size)
    distmat = plain_distances(data.q_feats, data.g_feats)
    ours, plain = evaluate_ranking(distmat, *data.labels), plain_ranking(distmat, *data.labels)
    gap = max(np.abs(ours.cmc - plain[0]).max(), abs(ours.mean_ap - plain[1]), abs(ours.mean_inp - plain[2]))
    times = interleaved(
        repeats, lambda: evaluate_ranking(distmat, *data.labels), lambda: plain_ranking(distmat, *data.labels)
    )
    return {"ours": times[0], "plain": times[1], "difference": gap, "mean_ap": ours.mean_ap}


def market_features(size: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Ranking from features against the matrix of distances and plain ranking."""
    data = Labelled(*size)
    features = data.q_feats, data.g_feats
    ours, whole = (
        evaluate_features(*features, *data.labels),
        evaluate_ranking(squared_euclidean(*features), *data.labels),
    )
    times = interleaved(
        repeats,
        lambda: evaluate_features(*features, *data.labels),
        lambda: plain_ranking(plain_distances(*features), *data.labels),
    )
    gap = np.nanmax(np.abs(ours.average_precisions - whole.average_precisions))
    return {"ours": times[0], "plain": times[1], "difference": gap, "mean_ap": ours.mean_ap}


def rerank_8000(size: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Re-ranked distances against the dense version with a loop; the difference is to that version in float64."""
    data = Labelled(*size)
    exact = plain_rerank(data.q_feats, data.g_feats, kind=np.float64)
    gap = np.abs(rerank(data.q_feats, data.g_feats) - exact).max()
    del exact
    times = interleaved(
        repeats, lambda: rerank(data.q_feats, data.g_feats), lambda: plain_rerank(data.q_feats, data.g_feats)
    )
    return {"ours": times[0], "plain": times[1], "difference": gap}


COMPARED = {"market-distances": market_distances, "market-features": market_features, "rerank-8000": rerank_8000}


def run_case(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything known about a case: seconds, ratio, difference, memory."""
    result: dict[str, Any] = {}
    if case in COMPARED:
        repeats = 1 if case.startswith("rerank") or args.quick else args.repeats
        result = COMPARED[case](SIZES[case][args.quick], repeats)
    if case != "market-distances":
        child = in_child(case, args)
        result = {"ours": child["seconds"], **child, **result}
    return result


def show(case: str, size: tuple[int, int], result: dict[str, Any]) -> None:
    """One line of the table."""
    ratio = f"{result['plain'] / result['ours']:.1f}x" if "plain" in result else "-"
    cells = [case, f"{size[0]} x {size[1]}", f"{result['ours']:.2f}"]
    cells += [f"{result['plain']:.2f}" if "plain" in result else "-", ratio]
    cells += [f"{result[key]:{style}}" if key in result else "-" for key, style in COLUMNS]
    print("".join(f"{cell:>18}" for cell in cells), flush=True)


COLUMNS = (("difference", ".1e"), ("extra_mb", ".0f"), ("mean_ap", ".3f"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run each")
    parser.add_argument("--case", action="append", choices=SIZES, help="default: all but " + ", ".join(HEAVY))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()), help="folder for the memory map, 5 GB"
    )
    parser.add_argument("--child", choices=SIZES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args.child, SIZES[args.child][args.quick], args.scratch)))
        return
    titles = ("case", "size", "ours s", "plain s", "ratio", "difference", "extra MB", "mAP")
    print("".join(f"{title:>18}" for title in titles))
    for case in args.case or [name for name in SIZES if args.quick or name not in HEAVY]:
        show(case, SIZES[case][args.quick], run_case(case, args))


if __name__ == "__main__":
    main()

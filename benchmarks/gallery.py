"""Speed, memory, size and recall of galleries, in a file and on a Milvus server that this script starts.

Vectors are drawn: identities are random directions, their images lie around them as features of trained models do.

    python benchmarks/gallery.py                     # 100,000 vectors of 1,280 numbers, every index, file and server
    python benchmarks/gallery.py --vectors 10000 --on file --index FLAT
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import GalleryError
from svllreid.evaluation.ranking.distance import distances
from svllreid.gallery.conditions import Conditions
from svllreid.gallery.crop import Crop
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.milvus import MilvusStore
from svllreid.gallery.record import INDEXES, GalleryRecord
from svllreid.gallery.searching import SearchOptions

IMAGES, CAMERAS, QUERIES = 20, 6, 100
SETTINGS = {"image_size": (256, 128), "pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3, "neck": "before"}


def features(count: int, dim: int) -> np.ndarray:
    """(count + QUERIES, dim) float32 of length 1; IMAGES of each identity, about as far apart as real ones."""
    generator = np.random.default_rng(0)
    identities = generator.standard_normal((-(-count // IMAGES), dim), dtype=np.float32)
    rows = np.arange(count + QUERIES) % len(identities)
    drawn = identities[rows] + 0.7 * generator.standard_normal((len(rows), dim), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A Milvus server in a process of its own: its address and the process."""
    ports = [free_port() for _ in range(2)]
    code = (
        "import sys, time; from milvus import MilvusServer\n"
        "server = MilvusServer(wait_for_started=False); server.set_base_dir(sys.argv[1])\n"
        "server.listen_port = int(sys.argv[2]); server.start(); print(server.server_proc.pid, flush=True)\n"
        "time.sleep(100000)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(ports[0])], stdout=subprocess.PIPE, text=True
    )
    try:
        pid = int(process.stdout.readline())  # type: ignore[union-attr]  # it is a pipe
        address = f"http://127.0.0.1:{ports[0]}"
        for _ in range(120):
            try:
                MilvusStore(address, timeout=5).close()
                break
            except GalleryError:  # it is still starting
                time.sleep(1)
        time.sleep(5)
        yield address, psutil.Process(pid)
        psutil.Process(pid).kill()
    finally:
        process.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def measure(uri: str, index: str, vectors: np.ndarray, process: psutil.Process, folder: Path) -> dict[str, float]:
    """All figures of one index."""
    count, dim = len(vectors) - QUERIES, vectors.shape[1]
    spec = EmbeddingSpec(
        "drawn", dim, normalized=True, precision="32", flip=False, sie_camera=False, sie_view=False, sie_coe=0.0,
        sie_table="", **SETTINGS,
    )  # fmt: skip
    store = MilvusStore(uri, index.lower(), timeout=120)
    store.create(GalleryRecord(spec, index))
    store.open()
    figures: dict[str, float] = {}
    start = time.perf_counter()
    for first in range(0, count, 1024):
        rows = range(first, min(first + 1024, count))
        store.upsert([crop(row) for row in rows], vectors[rows.start : rows.stop])
    store.flush()
    figures["added/s"] = count / (time.perf_counter() - start)
    store.close()
    start = time.perf_counter()
    with Gallery(uri, name=index.lower(), mode="r+", timeout=600) as gallery:
        queries = vectors[count:]
        gallery.search_features(queries[:1])
        figures["open s"] = time.perf_counter() - start
        exact = np.argsort(distances(queries, vectors[:count]), axis=1, kind="stable")[:, :10]
        found = [[int(hit.path) for hit in gallery.search_features(queries[row : row + 1])] for row in range(QUERIES)]
        figures["recall@10"] = float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]))
        for k in (10, 100):
            figures[f"queries/s k={k}"] = rate(gallery, queries, k, Conditions())
        figures["queries/s camera"] = rate(gallery, queries, 10, Conditions(not_camids=[0]))
        figures["queries/s tag"] = rate(gallery, queries, 10, Conditions(tags=["night"]))
        batch = time.perf_counter()
        gallery.store.search(queries, 10)
        figures["queries/s, 100 at once"] = QUERIES / (time.perf_counter() - batch)
    memory = process.memory_info().rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures["memory GB"] = memory / 1e9 if process.pid != psutil.Process().pid else peak / 1e9
    figures["disk GB"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e9
    return figures


def crop(row: int) -> Crop:
    """A drawn crop; its path is its row."""
    return Crop(
        f"{row:064d}", str(row), row // IMAGES, row % CAMERAS, 1.7e9 + row, tags=("night",) if row % 10 == 0 else ()
    )


def rate(gallery: Gallery, queries: np.ndarray, k: int, where: Conditions) -> float:
    """Searches a second, one query each."""
    start, number = time.perf_counter(), 0
    while time.perf_counter() - start < 3 and number < len(queries):
        gallery.search_features(queries[number : number + 1], SearchOptions(k), where)
        number += 1
    return number / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--on", choices=["file", "server", "both"], default="both")
    parser.add_argument("--index", choices=list(INDEXES), action="append")
    options = parser.parse_args()
    vectors = features(options.vectors, options.dim)
    table: Table | None = None
    places = ["file", "server"] if options.on == "both" else [options.on]
    with tempfile.TemporaryDirectory() as scratch:
        for place in places:
            for index in options.index or list(INDEXES):
                folder = Path(scratch) / f"{place}{index}"
                if place == "file":
                    figures = in_own_process(folder / "gallery.db", index, options)
                else:
                    with server(folder) as (address, process):
                        figures = measure(address, index, vectors, process, folder)
                if table is None:
                    table = Table("", *figures)
                table.add_row(f"{place} {index}", *(f"{value:.3g}" for value in figures.values()))
                print(place, index, figures, flush=True)
    Console(width=200).print(table)


def in_own_process(uri: Path, index: str, options: argparse.Namespace) -> dict[str, float]:
    """The figures of a file, whose memory is that of the process that opens it."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gallery, psutil, json; from pathlib import Path\n"
        "vectors = gallery.features(int(sys.argv[4]), int(sys.argv[5])); uri = Path(sys.argv[2])\n"
        "print(json.dumps(gallery.measure(str(uri), sys.argv[3], vectors, psutil.Process(), uri.parent)))"
    )
    words = [str(Path(__file__).parent), str(uri), index, str(options.vectors), str(options.dim)]
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

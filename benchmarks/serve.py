"""Load on `svllreid serve`: clients that search one picture after the other, as fast as the server answers.

python benchmarks/serve.py --gallery people.db --weights outputs/people/tiny_10.pth --images data/people/query

It starts a server on the gallery, counts searches and errors, and prints median and 99th percentile of the time of a
search, searches a second, and the memory of the server at the start and at the end.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx
import numpy as np

from svllreid.data.readers.listed_images import list_images

ADDRESS = re.compile(r"http://\S+/")
MEMORY = re.compile(r"^process_resident_memory_bytes (\S+)", re.M)


@dataclass
class Counts:
    """What the clients saw.

    Args:
        seconds: of each search that was answered.
        errors: what came instead, by status or kind of error.
    """

    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: float, error: str) -> None:
        """Count a search."""
        with self.lock:
            if error:
                self.errors[error] = self.errors.get(error, 0) + 1
            else:
                self.seconds.append(seconds)


def client(address: str, pictures: Sequence[bytes], start: int, until: float, counts: Counts) -> None:
    """Search with one picture after the other until a time."""
    with httpx.Client(base_url=address, timeout=60) as session:
        number = start
        while time.monotonic() < until:
            begun, error = time.perf_counter(), ""
            try:
                answer = session.post("/api/v1/search", files={"image": pictures[number % len(pictures)]})
                error = "" if answer.status_code == 200 else str(answer.status_code)
            except httpx.HTTPError as failure:
                error = type(failure).__name__
            counts.add(time.perf_counter() - begun, error)
            number += 1


def memory(address: str) -> float:
    """Resident memory of the server, in MiB."""
    found = MEMORY.search(httpx.get(f"{address}metrics").text)
    return float(found[1]) / 2**20 if found else float("nan")


def load(address: str, pictures: Sequence[bytes], clients: int, seconds: float) -> Counts:
    """So many clients for so many seconds."""
    counts, until = Counts(), time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(address, pictures, number, until, counts)) for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


def start(gallery: str, weights: str, log: Path) -> tuple[subprocess.Popen, str]:
    """A server at a free port, and its address once it answers."""
    command = [sys.executable, "-m", "svllreid", "serve", "--gallery", gallery, "--weights", weights]
    with log.open("w") as file:
        process = subprocess.Popen([*command, "--port", "0", "--rate", "0"], stdout=file, stderr=file)
    while not (found := ADDRESS.search(log.read_text())):
        if process.poll() is not None:
            sys.exit(log.read_text())
        time.sleep(0.2)
    return process, found[0]


def main() -> None:
    """Reads the options, runs the load and prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", type=Path, required=True, help="a folder of pictures to search with")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    pictures = [image.path.read_bytes() for image in list_images(options.images)[0]]
    with tempfile.TemporaryDirectory() as folder:
        process, address = start(options.gallery, options.weights, Path(folder) / "log.txt")
        try:
            load(address, pictures, options.clients, 2)  # the first batches are slower
            before = memory(address)
            begun = time.monotonic()
            counts = load(address, pictures, options.clients, options.seconds)
            took, after = time.monotonic() - begun, memory(address)
        finally:
            process.terminate()
            process.wait(60)
    times = np.array(counts.seconds) * 1000
    print(f"{options.clients} clients, {took:.0f} s: {len(times)} searches, {sum(counts.errors.values())} errors")
    print(f"errors: {counts.errors}") if counts.errors else None
    print(
        f"median {np.median(times):.0f} ms, p99 {np.percentile(times, 99):.0f} ms, {len(times) / took:.1f} searches/s"
    )
    print(f"memory of the server: {before:.0f} MiB at the start, {after:.0f} MiB at the end")


if __name__ == "__main__":
    main()

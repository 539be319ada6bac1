"""A server that is killed loses nothing that it has acknowledged; one that is told to end finishes what runs."""

import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Timer

import httpx2 as httpx
import pytest

PEOPLE = ("rita", "greta", "bob", "gil")
SERVED = Path(__file__).with_name("served.py")


class Process:
    """The server in a process of its own.

    Args:
        folder: with its gallery, which is made if it is not there.
    """

    def __init__(self, folder):
        port = folder / "port"
        port.unlink(missing_ok=True)
        with (folder / "log.txt").open("a") as log:
            self.process = subprocess.Popen([sys.executable, SERVED, folder, port], stderr=log)
        while not port.exists():
            assert self.process.poll() is None, (folder / "log.txt").read_text()
            time.sleep(0.05)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port.read_text()}", timeout=60)
        assert self.client.get("/readyz").status_code == 200

    def end(self, by):
        """Send a signal and wait for the end."""
        self.process.send_signal(by)
        self.process.wait(60)
        self.client.close()


class Book:
    """What the server has acknowledged: how many crops each identity has.

    Args:
        draw: makes pictures.
        chance: draws what is done.
    """

    def __init__(self, draw, chance):
        self.draw, self.chance, self.number = draw, chance, 0
        self.crops = dict.fromkeys(PEOPLE, 3)
        self.after = self.crops  # as it is if what was sent last was done without being acknowledged
        self.old = list(PEOPLE)  # those that can be changed, as nothing is being added to them

    def add(self, client):
        """Add two pictures with a new identity."""
        self.number += 1
        files = [("image", self.draw((self.number % 256, self.number // 256, blue))) for blue in (90, 91)]
        self.after = {**self.crops, f"p{self.number}": 2}
        answer = client.post("/api/v1/gallery/images", files=files, data={"pid": f"p{self.number}"})
        assert answer.status_code == 202, answer.text
        self.crops = self.after

    def change(self, client):
        """Give an identity another name, or merge it into another one."""
        self.number += 1
        pid, into = self.chance.sample(self.old, 2)
        rename = len(self.old) < 4 or self.chance.random() < 0.5
        new = f"r{self.number}" if rename else into
        rest = {name: count for name, count in self.crops.items() if name != pid}
        self.after = {**rest, new: rest.get(new, 0) + self.crops[pid]}
        body = {"pid": pid, "name": new} if rename else {"pids": [into, pid]}
        answer = client.post(f"/api/v1/identities/{'rename' if rename else 'merge'}", json=body)
        assert answer.status_code == 200, answer.text
        self.crops, self.old = self.after, [*(name for name in self.old if name not in (pid, new)), new]

    def check(self, client):
        """Everything that was acknowledged is there; of what was sent last both is right, done or not."""
        found = client.get("/api/v1/identities", params={"limit": 500}).json()["identities"]
        crops = {one["pid"]: one["crops"] for one in found}
        assert crops in (self.crops, self.after)
        self.crops = self.after = crops
        self.old = list(crops)


def wait_for_adding(folder):
    """Waits until all pictures that were accepted before the kill are added."""
    deadline = time.monotonic() + 60
    while list((folder / "people.web" / "jobs").glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def killed(folder, draw, times, seed):
    """Kills the server in the middle of adds, renames and merges, again and again; nothing acknowledged may be lost."""
    chance, server = random.Random(seed), Process(folder)
    book = Book(draw, chance)
    for _ in range(times):
        timer = Timer(chance.uniform(0.05, 0.8), server.process.kill)
        timer.start()
        with suppress(httpx.TransportError):
            while True:
                (book.add if chance.random() < 0.4 else book.change)(server.client)
        timer.join()
        server.end(signal.SIGKILL)
        server = Process(folder)
        wait_for_adding(folder)
        book.check(server.client)
    return server, book


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path, draw):
    server, _ = killed(tmp_path, draw, 1, seed=3)
    server.end(signal.SIGTERM)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_twenty_kills(tmp_path, draw):
    server, book = killed(tmp_path, draw, 20, seed=1)
    assert book.number > 40
    server.end(signal.SIGTERM)


def test_a_server_that_is_told_to_end_finishes_what_runs(tmp_path, draw):
    server = Process(tmp_path)
    files = [("image", draw((number, 1, 1), (2500, 2500))) for number in range(8)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.client.post, "/api/v1/search", files=files)
        time.sleep(0.15)
        assert not running.done()
        server.process.send_signal(signal.SIGTERM)
        answer = running.result()
        assert (answer.status_code, answer.json()["query"]["pictures"]) == (200, 8)
    assert server.process.wait(30) in (0, -signal.SIGTERM)
    server.client.close()

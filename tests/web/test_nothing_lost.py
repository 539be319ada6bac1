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
    """What the server has acknowledged.

    Args:
        draw: makes pictures.
    """

    def __init__(self, draw):
        self.draw, self.number = draw, 0
        self.names, self.unsure = {name: name for name in PEOPLE}, {}

    def add(self, client):
        """Add two pictures with a new identity."""
        self.number += 1
        colours = [(self.number % 256, self.number // 256, blue) for blue in (90, 91)]
        files = [("image", self.draw(colour)) for colour in colours]
        name = f"p{self.number}"
        self.unsure = {name: name}
        answer = client.post("/api/v1/gallery/images", files=files, data={"pid": name})
        assert answer.status_code == 202, answer.text
        self.names |= self.unsure
        self.unsure = {}

    def rename(self, client, pid):
        """Rename one of the people that were there from the start."""
        self.number += 1
        self.unsure = {pid: f"{pid}.{self.number}"}
        body = {"pid": self.names[pid], "name": self.unsure[pid]}
        assert client.post("/api/v1/identities/rename", json=body).status_code == 200
        self.names |= self.unsure
        self.unsure = {}

    def check(self, client):
        """Everybody is there; of a name that was sent but not acknowledged either is right."""
        found = client.get("/api/v1/identities", params={"limit": 500}).json()["identities"]
        crops = {one["pid"]: one["crops"] for one in found}
        self.names |= {pid: new for pid, new in self.unsure.items() if new in crops}
        self.unsure = {}
        assert crops == {name: 3 if pid in PEOPLE else 2 for pid, name in self.names.items() if name in crops}
        assert set(self.names.values()) <= set(crops)


def wait_for_adding(folder):
    """Waits until all pictures that were accepted before the kill are added."""
    deadline = time.monotonic() + 60
    while list((folder / "people.web" / "jobs").glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def killed(folder, draw, times, seed):
    """Kills the server in the middle of adds and renames, again and again; nothing acknowledged may be lost."""
    chance, book, server = random.Random(seed), Book(draw), Process(folder)
    for _ in range(times):
        timer = Timer(chance.uniform(0.05, 0.8), server.process.kill)
        timer.start()
        with suppress(httpx.TransportError):
            while True:
                if chance.random() < 0.4:
                    book.add(server.client)
                else:
                    book.rename(server.client, chance.choice(PEOPLE))
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

"""Killed processes and servers: one message, nothing acknowledged is lost, and the repeat completes."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from svllreid import Encoder, build_model
from svllreid.gallery.gallery import Gallery
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint

pytestmark = pytest.mark.slow
IMAGES = 600


@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    """A checkpoint of random weights."""
    config = small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": False})
    model = build_model(config, num_classes=2)
    info = CheckpointInfo(
        config=config.to_yaml_tree(),
        num_classes=2,
        num_cameras=1,
        num_views=1,
        pids=[1, 2],
        stage=2,
        epoch=1,
        version="0",
    )
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    save_checkpoint(path, model, info, model.state_dict())
    return path


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """A folder of images that are all different."""
    folder, noise = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    for number in range(IMAGES):
        Image.fromarray(noise.integers(0, 256, (32, 16, 3), np.uint8)).save(folder / f"{number}_c{number % 3 + 1}.png")
    return folder


def command(*words, **environment):
    """Starts `svllreid gallery …`."""
    return subprocess.Popen(
        [sys.executable, "-m", "svllreid", "gallery", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MILVUS_TOKEN": "", **environment},
    )


def ended(process):
    """Exit code, output, and messages."""
    out, messages = process.communicate(timeout=200)
    return process.returncode, out, messages


def number_of(uri, name="crops"):
    code, out, messages = ended(command("stats", "--gallery", uri, "--name", name, "--json"))
    assert code == 0, messages
    return json.loads(out)["crops"]


def one_message(messages):
    """The only message, besides notes about the weights."""
    lines = [line for line in messages.splitlines() if line.strip() and "model.pth" not in line]
    assert "Traceback" not in messages
    assert len(lines) == 1 and lines[0].startswith("svllreid: "), messages
    return lines[0]


ADD = """
import sys
from pathlib import Path
import svllreid
from svllreid.gallery.gallery import Gallery
encoder = svllreid.Encoder.load(sys.argv[1], device="cpu", batch_size=8)
done = 0
def progress(more):
    global done
    done += more
    print(done, flush=True)
with Gallery(sys.argv[3], encoder, name=sys.argv[4]) as gallery:
    print("open", flush=True)
    report = gallery.add(sorted(Path(sys.argv[2]).iterdir()), progress=progress)
    print("added", report.added, flush=True)
    sys.stdin.readline()
"""


def adding(weights, crops, uri, name="crops"):
    """A process that adds all crops, and prints how many it has stored."""
    words = [sys.executable, "-c", ADD, *map(str, (weights, crops, uri, name))]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(words, **pipes, text=True)
    assert process.stdout.readline() == "open\n", process.communicate()[1]
    return process


def wait_for(process, count):
    """Waits until a process has stored so many crops."""
    while (line := process.stdout.readline().strip()) and int(line) < count:
        pass


def test_killed_while_adding_to_a_file(weights, crops, tmp_path):
    uri, draws, stored, before = tmp_path / "people.db", random.Random(1), 0, 0
    for moment in (0, 40, 90, 150, 260, 400):
        process = adding(weights, crops, uri)
        if moment:
            wait_for(process, moment)
        time.sleep(draws.random() / 10)
        process.kill()
        rest = process.communicate()[0].splitlines()
        stored = max([moment if moment else 0, *(int(line) for line in rest if line.isdigit())])
        with Gallery(uri) as gallery:
            ids = [crop.id for crop in gallery.crops()]
            assert len(gallery) == len(ids) == len(set(ids)) >= max(stored, before)
            assert len(gallery) < IMAGES, "it was killed in time"
            before = len(ids)
    code, out, messages = ended(command("add", crops, "--gallery", uri, "--weights", weights))
    assert code == 0 and f"{IMAGES - before} crops added, {before} were there" in out, messages
    with Gallery(uri) as gallery:
        assert len({crop.path for crop in gallery.crops()}) == len(gallery) == IMAGES


def test_killed_while_a_gallery_is_made(weights, tmp_path):
    uri, draws = tmp_path / "people.db", random.Random(2)
    script = (
        "from svllreid.gallery.milvus import MilvusStore as S; from svllreid.gallery.record import GalleryRecord as R\n"
    )
    script += "import sys, svllreid\n"
    script += "encoder = svllreid.Encoder.load(sys.argv[1], device='cpu')\nprint('ready', flush=True)\n"
    script += "while True:\n s = S(sys.argv[2]); s.create(R(encoder.spec)); s.open(); s.drop(); s.close()\n"
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(weights), str(uri)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3 + draws.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Gallery(uri, Encoder.load(weights, device="cpu")) as gallery:
            gallery.store.drop()


def test_two_processes_on_a_file(weights, crops, tmp_path):
    uri = tmp_path / "people.db"
    process = adding(weights, crops, uri)
    code, _, messages = ended(command("stats", "--gallery", uri))
    line = one_message(messages)
    assert code == 2 and "is open in another process; put the gallery on" in line and "(--wait)" in line
    waiting = command("stats", "--gallery", uri, "--wait", "--json")
    time.sleep(2)
    assert waiting.poll() is None
    assert f"added {IMAGES}" in process.communicate("\n")[0]
    code, out, messages = ended(waiting)
    assert code == 0 and json.loads(out)["crops"] == IMAGES, messages


def test_two_processes_on_a_server(weights, crops, server):
    name = f"both{os.getpid()}"
    words = ("--gallery", server.uri, "--name", name, "--weights", weights)
    assert ended(command("create", *words))[0] == 0
    both = [command("add", crops, *words) for _ in range(2)]
    assert [ended(process)[0] for process in both] == [0, 0]
    with Gallery(server.uri, name=name) as gallery:
        ids = [crop.id for crop in gallery.crops()]
        assert len(gallery) == len(ids) == len(set(ids)) == IMAGES
        gallery.store.drop()


def test_no_server():
    start = time.monotonic()
    code, _, messages = ended(command("stats", "--gallery", "http://127.0.0.1:9"))
    assert code == 2 and "check that the server runs at this address" in one_message(messages)
    assert time.monotonic() - start < 60


def test_server_killed_while_adding(weights, crops, new_server):
    server = new_server()
    uri = server.uri
    words = ("--gallery", uri, "--weights", weights)
    assert ended(command("create", *words))[0] == 0
    process = command("add", crops, *words)
    stored = 0
    with Gallery(uri) as gallery:
        end = time.monotonic() + 120
        while not stored and time.monotonic() < end:
            stored = len(gallery)
        process.send_signal(signal.SIGSTOP)  # it must not be done before the server dies
        stored = len(gallery)
        assert 0 < stored < IMAGES
    server.kill()
    process.send_signal(signal.SIGCONT)
    start = time.monotonic()
    code, _, messages = ended(process)
    took = time.monotonic() - start
    assert code == 2, messages
    assert "nothing is lost" in one_message(messages)
    assert took < 45
    server.start()
    left = number_of(uri)
    assert stored <= left < IMAGES
    code, out, messages = ended(command("add", crops, *words))
    assert code == 0 and f"{IMAGES - left} crops added, {left} were there" in out, messages
    server.kill()  # what was added and acknowledged is there, though nobody asked the server to write it
    server.start()
    with Gallery(uri) as gallery:
        ids = [crop.id for crop in gallery.crops()]
        assert len(gallery) == len(ids) == len(set(ids)) == IMAGES


def test_wrong_and_right_token(weights, crops, new_server):
    server = new_server(common__security__authorizationEnabled=True)
    words = ("create", "--gallery", server.uri, "--weights", weights)
    for token in ("", "root:wrong", "nonsense"):
        start = time.monotonic()
        code, _, messages = ended(command(*words, MILVUS_TOKEN=token))
        assert code == 2 and "set the environment variable MILVUS_TOKEN" in one_message(messages), token
        assert time.monotonic() - start < 60
    code, out, messages = ended(command(*words, MILVUS_TOKEN="root:Milvus"))
    assert code == 0 and "an empty gallery" in out, messages

"""A server on a small gallery of one-coloured pictures, with a model that sees their mean colour."""

import io
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from svllreid import EmbeddingSpec, Gallery
from svllreid.calibration.fit import calibrate
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.types import SideRows
from svllreid.web.access.rates import RateLimit
from svllreid.web.access.sessions import Guard
from svllreid.web.app import create_app
from svllreid.web.metrics import Metrics
from svllreid.web.service.batching import OneAtATime
from svllreid.web.service.folder import StateFolder
from svllreid.web.service.service import Service, Settings

TOKEN = "a-token-of-this-test-0123456789"
PEOPLE = {"rita": (200, 30, 30), "greta": (30, 200, 30), "bob": (30, 30, 200), "gil": (40, 180, 40)}
SPEC = EmbeddingSpec(
    "0f3a",
    dim=3,
    normalized=False,
    precision="32",
    image_size=(32, 16),
    pixel_mean=(0.5,) * 3,
    pixel_std=(0.5,) * 3,
    neck="before",
    flip=False,
    sie_camera=False,
    sie_view=False,
    sie_coe=0.0,
    sie_table="",
)


class MeanColour:
    """An embedder whose features (B, 3) are the mean colour of a picture, 0 to 1."""

    device, dim, spec = torch.device("cpu"), 3, SPEC

    def __call__(self, images, camids, viewids):
        """Features of a batch."""
        return images.float().mean((2, 3)) / 255


def resized(image):
    """A picture as the tensor (3, 32, 16) uint8 that the embedder takes."""
    return torch.from_numpy(np.array(image.resize((16, 32)))).permute(2, 0, 1).contiguous()


def make_encoder():
    """The model."""
    return FeatureEncoder(OneAtATime(MeanColour()), resized, SideRows())


def picture(colour, size=(20, 40), kind="PNG"):
    """The bytes of a one-coloured picture."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format=kind)
    return file.getvalue()


def fill(folder: Path):
    """A gallery of four people, three crops each by two cameras, with thumbnails; Gil looks much like Greta."""
    files, rows = list[Path](), list(enumerate(PEOPLE.items()))
    (folder / "crops").mkdir()
    for _, (name, colour) in rows:
        for shot in range(3):
            files.append(folder / "crops" / f"{name}_{shot}.png")
            files[-1].write_bytes(picture(tuple(value + shot for value in colour)))
    pids = [name for _, (name, _) in rows for _ in range(3)]
    times = [1_777_638_600.0 + 60 * shot + number for number, _ in rows for shot in range(3)]
    tags = [["night"] if shot == 2 else [] for _ in rows for shot in range(3)]
    with Gallery(folder / "people.db", make_encoder(), thumbnails=True) as gallery:
        gallery.add(files, pids, [0, 1, 0] * len(rows), times, tags)


def make_calibration():
    """A calibration of drawn people: images of one person are 0.02 apart, of two people 0.05 or more."""
    people, pids = (
        np.repeat(np.arange(60.0)[:, None] * 0.07, 2, 0) * np.array([[1.0, 0, 0]]),
        np.repeat(np.arange(60), 2),
    )
    people[1::2] += np.array([0.02, 0, 0])
    return calibrate(people.astype(np.float32), pids, spec=SPEC, dataset="drawn")


def make_service(folder: Path, *, calibrated=True, **settings):
    """The service of the gallery in a folder."""
    calibration, encoder = make_calibration() if calibrated else None, make_encoder()
    gallery = Gallery(folder / "people.db", encoder, calibration=calibration, mode="r+")
    state = StateFolder(folder / "people.web", "crops")
    return Service(gallery, encoder, state, calibration=calibration, settings=Settings(**settings))


def make_app(service, *, token="", rate=0.0, **options):
    """The application of a service."""
    return create_app(service, Guard(token, b"k" * 32, RateLimit(rate, 5)), Metrics(), **options)


@pytest.fixture
def people(tmp_path):
    """A folder of this test's own with the filled gallery."""
    fill(tmp_path)
    return tmp_path


@pytest.fixture
def draw():
    """Makes the bytes of a one-coloured picture, see `picture`."""
    return picture


@pytest.fixture
def open_service(people):
    """Opens the service of this test's gallery, see `make_service`; it is closed in the end."""
    opened = []

    def open_it(**options):
        opened.append(make_service(people, **options))
        return opened[-1]

    yield open_it
    for service in opened:
        if service.batching.thread.is_alive():
            service.close()


@pytest.fixture
def service(open_service):
    """A service with a calibration."""
    return open_service()


@pytest.fixture
def open_client(open_service):
    """Opens a client of an application, see `make_app`; `service` is its service."""
    with ExitStack() as stack:

        def open_it(service=None, base_url="http://127.0.0.1", **options):
            service = service or open_service()
            client = stack.enter_context(TestClient(make_app(service, **options), base_url=base_url))
            client.service = service
            return client

        yield open_it


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A client as `client`, which the tests of a file share: they change nothing."""
    folder = tmp_path_factory.mktemp("reader")
    fill(folder)
    service = make_service(folder)
    with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
        client.service, client.folder = service, folder
        yield client


@pytest.fixture
def client(open_client):
    """A client of an application for this machine alone, without a token."""
    return open_client()


class RunningServer:
    """uvicorn with an application in a thread, at a free port.

    Args:
        app: the application.
        settings: of uvicorn.
    """

    def __init__(self, app, **settings):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, **settings))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()

    def stop(self):
        """End it as a signal would, and wait."""
        self.server.should_exit = True
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()


@pytest.fixture
def running(people):
    """A running server on a gallery of this test's own; `url` is its address, `service` its service."""
    service = make_service(people)
    server = RunningServer(make_app(service))
    server.service = service
    yield server
    server.stop()

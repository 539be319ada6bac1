"""Galleries in a file, and the same on a Milvus server that the tests start; a model of a few pixels."""

import os
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from svllreid.embedding.contract import EmbeddingSpec
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.evaluation.table_file import TableBlock
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.milvus import MilvusStore
from svllreid.gallery.record import GalleryRecord
from svllreid.types import SideRows

DIM = 24
SPEC = EmbeddingSpec(
    "0f3a", DIM, (4, 2), (0.5,) * 3, (0.5,) * 3, "before", False, True, False, False, 0.0, "", "32"
)  # 4 x 2 pixels of three colours


class Pixels:
    """An embedder whose features are the pixels, moved by a number that stands for the weights."""

    device, dim = torch.device("cpu"), DIM

    def __init__(self, weights="0f3a"):
        self.spec, self.batches = replace(SPEC, weights=weights), []

    def __call__(self, images, camids, viewids):
        self.batches.append(len(images))
        features = images.flatten(1).float() + 1 + int(self.spec.weights, 16) % 7  # (B, 24)
        return features / features.norm(dim=1, keepdim=True)


def small(image):
    """Of an RGB image the tensor (3, 4, 2) that the embedder takes."""
    return pil_to_tensor(image.resize((2, 4)))


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def spec():
    return SPEC


@pytest.fixture(scope="session")
def encoder_of():
    """Makes an encoder; other weights, another model."""
    return lambda weights="0f3a", batch=4: FeatureEncoder(Pixels(weights), small, SideRows(), batch_size=batch)


@pytest.fixture
def encoder(encoder_of):
    return encoder_of()


@pytest.fixture
def photos(tmp_path):
    """Ten files, p0.png to p9.png, of noise."""
    folder, random = tmp_path / "photos", np.random.default_rng(5)
    folder.mkdir()
    for number in range(10):
        Image.fromarray(random.integers(0, 256, (4, 2, 3), dtype=np.uint8)).save(folder / f"p{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def block_of():
    """Makes rows of a table of features: vectors (n, D), and columns that replace empty ones."""

    def make(vectors, **columns):
        count = len(vectors)
        texts = {name: np.array([""] * count, dtype=str) for name in ("path", "pid", "tracklet", "tags")}
        numbers = {"camid": np.full(count, -1), "time": np.full(count, np.nan)}
        given = {name: np.array(values) for name, values in columns.items()}
        return TableBlock({**texts, **numbers, **given}, np.asarray(vectors, np.float32))

    return make


@pytest.fixture(scope="session")
def random_vectors():
    """Makes features (n, D) of length 1 at random."""
    return lambda count, seed=0: unit(np.random.default_rng(seed).normal(size=(count, DIM)))


class Server:
    """A Milvus server of its own, from the wheel `milvus`, with its data in a folder and on ports that were free."""

    def __init__(self, folder, **settings):
        import milvus

        self.folder, self.process = folder, None
        keys = [key for key in milvus.MilvusServerConfig().configurable_items if key.endswith("_port")]
        self.ports = dict(zip([*keys, "web", "peer"], free_ports(len(keys) + 2), strict=True))
        config = milvus.MilvusServerConfig(data_dir=str(folder), **{key: self.ports[key] for key in keys})
        for name, value in settings.items():
            config.set(name.replace("__", "."), value)
        config.resolve()
        milvus._initialize_data_files(str(folder))
        self.uri = f"http://127.0.0.1:{self.ports['proxy_port']}"

    def start(self):
        """Start it, or start it again, and wait until it serves."""
        environment = {
            "DEPLOY_MODE": "STANDALONE",
            "ETCD_CONFIG_PATH": str(self._etcd_settings()),
            "LD_LIBRARY_PATH": str(self.folder / "bin"),
            "METRICS_PORT": str(self.ports["web"]),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
        }
        with (self.folder / "logs/all.log").open("a") as log:
            self.process = subprocess.Popen(
                [self.folder / "bin/milvus", "run", "standalone"],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
        end = time.monotonic() + 180
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{self.ports['web']}/healthz", timeout=5) as answer:
                if b"OK" in answer.read():
                    return self
            time.sleep(0.2)
        raise RuntimeError((self.folder / "logs/all.log").read_text()[-2000:])

    def _etcd_settings(self):
        """The file with the addresses of its etcd, which else takes 2379 and 2380 whatever is configured."""
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd_port", "peer"))
        urls = {"listen-client-urls": client, "advertise-client-urls": client, "listen-peer-urls": peer}
        urls |= {"initial-advertise-peer-urls": peer, "initial-cluster": f"default={peer}", "name": "default"}
        file = self.folder / "etcd.yaml"
        file.write_text("".join(f"{key}: {value}\n" for key, value in urls.items()))
        return file

    def kill(self):
        """At once, as when the machine fails."""
        self.process.kill()
        self.process.wait()


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def new_server(tmp_path_factory):
    """Starts servers, which end with the session; settings have __ for a dot."""
    pytest.importorskip("milvus")
    started = []

    def start(**settings):
        started.append(Server(tmp_path_factory.mktemp("milvus"), **settings))
        return started[-1].start()

    yield start
    for server in started:
        if server.process is not None:
            server.kill()


@pytest.fixture(scope="session")
def server(new_server):
    """A server for all tests that leave it running."""
    return new_server()


@pytest.fixture(params=["file", pytest.param("server", marks=pytest.mark.slow)])
def place(request, tmp_path):
    """Where a test's gallery is: its `uri` and `name`, and whether it is on a server."""
    if request.param == "file":
        yield SimpleNamespace(uri=str(tmp_path / "people.db"), name="crops", server=False)
        return
    uri, name = request.getfixturevalue("server").uri, f"g{os.urandom(6).hex()}"
    yield SimpleNamespace(uri=uri, name=name, server=True)
    store = MilvusStore(uri, name)
    for one in (store, store.named(f"{name}_next"), store.named(f"{name}_old")):
        if one.exists():
            one.drop()
    store.close()


@pytest.fixture
def opened(place):
    """Opens the test's gallery, made for features of DIM numbers; all are closed at the end."""
    galleries = []

    def open_gallery(encoder=None, **options):
        store = MilvusStore(place.uri, place.name)
        if not store.exists():
            folder = options.pop("thumbnails", "")
            store.create(GalleryRecord(SPEC, options.pop("index", "FLAT"), str(folder)))
        store.close()
        galleries.append(Gallery(place.uri, encoder, name=place.name, mode="r+", **options))
        return galleries[-1]

    yield open_gallery
    for gallery in galleries:
        gallery.close()

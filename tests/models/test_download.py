"""Fetching published models from a server on loopback that breaks off, resumes and lies."""

import pickle
import sys
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from svllreid import build_model
from svllreid.errors import CheckpointError, OutputError
from svllreid.models.download import PAGE, Fetched, cached, fetch
from svllreid.models.published import PublishedModel

TINY = PublishedModel(
    name="tiny-market1501",
    method="SVLL-ReID",
    dataset="market1501",
    backbone="tiny",
    drive_id="abc",
    config="person/tiny_svllreid.yml",
    changes=(),
    stride=12,
    size=(32, 16),
    sie_camera=True,
    sie_view=False,
    views=0,
    reported=None,
    source=None,
)


class Files:
    """What the server has, where it breaks off, and what it was asked."""

    def __init__(self):
        self.body = b""
        self.stop = None
        self.ranges = []
        self.paths = []


@pytest.fixture
def server(monkeypatch):
    """A server on loopback: `.url` is the template to fetch from, `.files` what it does."""
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            files.paths.append(self.path)
            files.ranges.append(self.headers.get("Range"))
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(files.body) - 1}/{len(files.body)}")
            self.send_header("Content-Length", str(len(files.body) - start))
            self.end_headers()
            self.wfile.write(files.body[start : files.stop])

        def log_message(self, *_):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        server.files = files
        server.url = f"http://127.0.0.1:{server.server_port}/{{id}}/{{name}}"
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    """A file in the published layout, as two processes write it."""
    config = small_config({"MODEL.STRIDE_SIZE": [12, 12]})
    state = build_model(config, num_classes=3, num_cameras=2).state_dict()
    path = tmp_path_factory.mktemp("published") / "ViT-B-16_60.pth"
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    return path.read_bytes()


def test_fetched_once_then_found(server, weights, tmp_path):
    server.files.body = weights
    seen = []
    fetched = fetch(TINY, tmp_path / "cache", url=server.url, progress=lambda *now: seen.append(now))
    path = tmp_path / "cache" / "tiny-market1501.pth"
    assert fetched == Fetched(path, new=True, table_rows=2)
    assert path.read_bytes() == weights and list(path.parent.iterdir()) == [path]
    assert server.files.paths == ["/abc/tiny-market1501"] and seen[-1] == (len(weights), len(weights))
    assert fetch(TINY, tmp_path / "cache", url=server.url) == Fetched(path, new=False, table_rows=2)
    assert len(server.files.paths) == 1


def test_an_interrupted_download_is_continued(server, weights, tmp_path):
    server.files.body, server.files.stop = weights, len(weights) // 2
    with pytest.raises(CheckpointError, match=r"could not be fetched.*run the same command again") as error:
        fetch(TINY, tmp_path, url=server.url)
    assert "It is removed" not in str(error.value) and "--continue" not in str(error.value)
    (part,) = tmp_path.iterdir()
    arrived = part.stat().st_size
    assert part.suffix == ".part" and 0 < arrived <= len(weights) // 2
    server.files.stop = None
    fetched = fetch(TINY, tmp_path, url=server.url)
    assert server.files.ranges[-1] == f"bytes={arrived}-"
    assert fetched.path.read_bytes() == weights and list(tmp_path.iterdir()) == [fetched.path]


def test_a_whole_file_that_was_not_checked_yet_is_not_fetched_again(server, weights, tmp_path):
    (tmp_path / "tiny-market1501.pth.part").write_bytes(weights)
    assert fetch(TINY, tmp_path, url=server.url).path.read_bytes() == weights
    assert not server.files.paths


class Program:
    """Unpickled without care it would write a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def unusable(kind, folder):
    file = folder / "file"
    if kind == "web page":
        return b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"
    if kind == "program":
        return pickle.dumps({"image_encoder.x": Program(folder / "executed")}, protocol=2)
    if kind == "TorchScript":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("model/constants.pkl", b"")
    elif kind == "CLIP":
        torch.save({"visual.conv1.weight": torch.zeros(1)}, file)
    elif kind == "other backbone":
        torch.save({"image_encoder.class_embedding": torch.zeros(768)}, file)
    return file.read_bytes()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("web page", r"a web page, not weights; .*quota"),
        ("program", r"not a readable weight file"),
        ("TorchScript", r"a TorchScript program"),
        ("CLIP", r"not a ReID checkpoint"),
        ("other backbone", r"ViT of width 768 .*, not a ViT of width 256 with 6 blocks and 2 patches \(tiny\)"),
    ],
)
def test_what_is_no_such_model_is_refused_and_removed(kind, message, server, tmp_path):
    server.files.body = unusable(kind, tmp_path)
    with pytest.raises(CheckpointError, match=message) as error:
        fetch(TINY, tmp_path / "cache", url=server.url)
    assert "It is removed" in str(error.value)
    assert f"{PAGE.format(id='abc')} in a browser and put the file at {tmp_path / 'cache'}" in str(error.value)
    assert not list((tmp_path / "cache").iterdir())
    assert not (tmp_path / "executed").exists()


def test_a_wrong_file_that_someone_put_into_the_cache_stays(tmp_path):
    cached(TINY, tmp_path).write_text("hello")
    with pytest.raises(CheckpointError, match=r"in the cache, but unusable.*remove that file"):
        fetch(TINY, tmp_path)
    assert cached(TINY, tmp_path).read_text() == "hello"


def test_google_drives_own_refusal(monkeypatch, tmp_path):
    gdown = pytest.importorskip("gdown")

    def refuse(address, *_, **__):
        raise gdown.FileURLRetrievalError(f"Too many users\n\thave viewed {address}")

    monkeypatch.setattr(gdown, "download", refuse)
    with pytest.raises(
        CheckpointError, match=r"Too many users have viewed https://drive\.google\.com/uc\?id=abc.*quota"
    ):
        fetch(TINY, tmp_path)


def test_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(CheckpointError, match=r"http://127\.0\.0\.1:9/x could not be fetched.*Check the network"):
        fetch(TINY, tmp_path, url="http://127.0.0.1:9/x")


def test_without_gdown_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(CheckpointError, match=r"pip install 'svllreid\[models\]'"):
        fetch(TINY, tmp_path)


def test_not_published(server, tmp_path):
    with pytest.raises(CheckpointError, match=r"not published.*no link for market1501"):
        fetch(replace(TINY, drive_id=None), tmp_path, url=server.url)
    assert not server.files.paths


def test_a_cache_that_cannot_be_written(server, weights, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="SVLLREID_CACHE"):
        fetch(TINY, tmp_path / "file" / "cache", url=server.url)

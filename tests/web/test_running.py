"""`svllreid serve`: what it refuses to start with, and a whole server with TLS and a token on a trained model."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvicorn

from svllreid.cli.main import run
from svllreid.errors import OutputError
from svllreid.web import running
from svllreid.web.errors import ServeError
from svllreid.web.running import ServeOptions, allowed_names, check_token
from svllreid.web.service.folder import StateFolder, gallery_identity, state_root

TOKEN = "a-token-of-this-test-0123456789"


@pytest.fixture
def serve(monkeypatch, capsys, tmp_path):
    """Runs `svllreid serve` with options, which is refused; the message."""
    monkeypatch.delenv("SVLLREID_TOKEN", raising=False)

    def serve(*options):
        words = ["svllreid", "serve", "--gallery", tmp_path / "no.db", "--weights", tmp_path / "no.pth", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        with pytest.raises(SystemExit) as end:
            run()
        assert end.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    return serve


def test_other_machines_are_served_with_a_token_alone(serve, monkeypatch):
    assert "SVLLREID_TOKEN" in serve("--host", "0.0.0.0")
    monkeypatch.setenv("SVLLREID_TOKEN", "short")
    assert "16 ASCII characters" in serve("--host", "0.0.0.0")
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        check_token(host, "")
    for host in ("0.0.0.0", "::", "192.0.2.1", "reid.example", "localhost.example", ""):
        with pytest.raises(ServeError, match="token"):
            check_token(host, "")
        check_token(host, TOKEN)


def test_what_is_missing_is_named_with_its_option(serve, tmp_path):
    assert "--tls-certificate, --tls-key" in serve("--tls-key", tmp_path / "key.pem")
    assert "key.pem does not exist" in serve("--tls-key", tmp_path / "key.pem", "--tls-certificate", __file__)
    assert "no.pth" in serve("--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "--host, --port" in serve("--port", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--server-name", "https://reid.example.org"), "without scheme and port"),
        (("--server-name", "reid.example.org:8000"), "without scheme and port"),
        (("--server-name", "a*b"), "no name of a server"),
        (("--proxy", "proxy.local"), "give its IP address"),
        (("--rate", "inf"), "the rate is inf"),
        (("--query-hours", "inf"), "queries are kept is inf"),
        (("--tls-certificate", __file__, "--tls-key", __file__), "no certificate and its key in PEM"),
    ],
)
def test_options_that_cannot_be_used_are_refused(serve, options, words):
    assert words in serve(*options)


def test_names_and_proxies_that_can_be_used():
    names = ("reid.example.org", "*.example.org", "192.0.2.1", "host_1", "[::1]", "Reid")
    assert "reid" in allowed_names(ServeOptions(names=names, proxy="127.0.0.1,10.0.0.0/8").names, "")


def test_a_missing_library_is_named_with_its_extra(serve, monkeypatch):
    monkeypatch.setattr("svllreid.web.libraries.find_spec", lambda name: None)
    assert "pip install 'svllreid[web,search]'" in serve()


def test_ctrl_c_a_second_time_ends_at_once(monkeypatch, caplog):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    server = running.Server(uvicorn.Config("none"))
    for sent in (signal.SIGINT, signal.SIGTERM):
        server.handle_exit(sent, None)
    assert server.should_exit and not ended
    server.handle_exit(signal.SIGINT, None)
    assert ended == [130] and "ended without finishing" in caplog.text


def test_the_state_lies_beside_the_gallery_or_where_it_is_said():
    assert state_root("data/people.db", None) == Path("data/people.web")
    assert state_root("http://milvus:19530", Path("state")) == Path("state")
    with pytest.raises(OutputError, match="name one"):
        state_root("http://milvus:19530", None)


def test_a_folder_is_of_one_server_and_one_gallery(tmp_path):
    (tmp_path / "web" / "queries").mkdir(parents=True)
    theirs, ours = tmp_path / "web" / ".their.1", tmp_path / "web" / "queries" / ".a.npz.1"
    theirs.touch(), ours.touch()
    first = StateFolder(tmp_path / "web", gallery_identity("people.db", "crops"))
    assert (theirs.exists(), ours.exists()) == (True, False)
    with pytest.raises(OutputError, match="in use by another server"):
        StateFolder(tmp_path / "web", "crops")
    key = first.key()
    first.close()
    with pytest.raises(OutputError, match="of the gallery crops, and this is cars at http://milvus:19530"):
        StateFolder(tmp_path / "web", gallery_identity("http://milvus:19530", "cars"))
    later = StateFolder(tmp_path / "web", "crops")
    assert later.key() == key and len(key) == 32
    (tmp_path / "web" / "key").write_bytes(b"")  # with which anybody could sign
    assert len(later.key()) == 32
    later.close()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made or written to"):
        StateFolder(tmp_path / "file", "crops")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_a_server_with_tls_and_a_token(tmp_path, draw):
    import httpx2 as httpx
    import torch

    import svllreid

    config = svllreid.load_config("person/tiny_svllreid.yml")
    torch.save(svllreid.build_model(config, num_classes=2).state_dict(), tmp_path / "tiny.pth")
    encoder = svllreid.Encoder.load(tmp_path / "tiny.pth", config, device="cpu")
    (tmp_path / "red.png").write_bytes(draw((200, 30, 30)))
    with svllreid.Gallery(tmp_path / "people.db", encoder) as gallery:
        gallery.add(tmp_path / "red.png", "rita", 0)
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*make.split(), *files], cwd=tmp_path, check=True, capture_output=True)
    command = [sys.executable, "-m", "svllreid", "serve", "--gallery", "people.db", "--weights", "tiny.pth"]
    command += ["--config-file", "person/tiny_svllreid.yml", "--host", "0.0.0.0", "--port", "0"]
    command += ["--tls-certificate", "cert.pem", "--tls-key", "key.pem"]
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "SVLLREID_TOKEN": TOKEN}, stdout=log, stderr=log
        )
    deadline = time.monotonic() + 120
    while not (found := re.search(r"https://0\.0\.0\.0:(\d+)/", (tmp_path / "log.txt").read_text())):
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log.txt").read_text()
        time.sleep(0.2)
    trusted = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with httpx.Client(base_url=f"https://localhost:{found[1]}", verify=trusted, timeout=60) as client:
        assert client.get("/api/v1/about").status_code == 401
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        answer = client.post("/api/v1/search", files={"image": draw((200, 30, 30))}).json()
        assert answer["hits"][0]["crop"]["pid"] == "rita"
        assert "; Secure" in client.get("/login").headers["set-cookie"]
    process.terminate()
    process.wait(60)
    text = (tmp_path / "log.txt").read_text()
    assert "POST /api/v1/search 200" in text
    assert TOKEN not in text and "Traceback" not in text
    assert (tmp_path / "people.web" / "key").stat().st_mode & 0o077 == 0

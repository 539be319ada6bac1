"""The commands of docs/serve.md: those that start a server are understood, and those of the API answer."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from svllreid.cli.main import run

TEXT = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
LINES = [line for block in BLOCKS for line in block.splitlines()]
STARTS = [line for line in LINES if line.startswith("svllreid serve")]
CALLS = [line for line in LINES if line.startswith("curl")]
TOKEN = "a-token-of-this-test-0123456789"


def test_all_commands_are_tested_here():
    assert len(STARTS) == 3 and len(CALLS) == 7
    assert {line for line in LINES if line.startswith("export")} == {"export SVLLREID_TOKEN=$(openssl rand -hex 32)"}
    assert len(STARTS) + len(CALLS) + 1 == len(LINES)


@pytest.mark.parametrize("command", STARTS)
def test_commands_that_start_a_server(command, monkeypatch):
    seen = []
    monkeypatch.setattr("svllreid.web.running.serve", lambda gallery, options, *given, **more: seen.append(options))
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 0 and len(seen) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
def test_examples_of_the_api(running, draw, tmp_path):
    (tmp_path / "query.jpg").write_bytes(draw((200, 30, 30)))
    (tmp_path / "frame.jpg").write_bytes(draw((30, 30, 200), (200, 200)))
    for call in CALLS:
        assert "http://localhost:8000/api/v1/" in call
        call = call.replace("http://localhost:8000", running.url).replace("curl", "curl --silent --fail-with-body", 1)
        done = subprocess.run(["bash", "-c", call], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (call, done.stdout)
    assert (tmp_path / "identities.zip").read_bytes()[:2] == b"PK"


def test_every_address_of_the_table_exists(reader):
    known = set(reader.get("/api/v1/openapi.json").json()["paths"])
    table = TEXT[TEXT.index("| address |") : TEXT.index("A server that has too much")]
    named = {re.sub(r"\?.*", "", path) for path in re.findall(r"`(/[^`]+)`", table)} - {"/metrics", "/api/v1"}
    spelled = {re.sub(r"\{\w+\}", "{}", path.removeprefix("/api/v1")) for path in known}
    assert {re.sub(r"\{\w+\}", "{}", path) for path in named} == spelled

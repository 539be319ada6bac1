"""`svllreid hub push` and `Encoder.load("hf://...")`, against a small hub that the tests start on loopback."""

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import yaml

import svllreid
from svllreid import Encoder
from svllreid.build import TrainingData, build_model_for, build_splits
from svllreid.cli.main import run
from svllreid.errors import CheckpointError, HubError
from svllreid.jobs.testing import run_test
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint
from svllreid.models.hub import fetch_model

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
REPO, TOKEN = "my-org/people", "hf_right"
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as huggingface_hub uses to upload and to download."""

    repos: dict  # files by name, by name of the repository
    objects: dict  # contents of large files, by their SHA-256
    readers: tuple  # tokens that may read and not write
    requests: list
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, content=b"", status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, token = self.path.partition("?")[0], (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.requests.append((self.command, path, token))
        if path.startswith("/lfs/"):
            self.objects[path.removeprefix("/lfs/")] = body
            return self.answer()
        if token and token not in (TOKEN, *self.readers):
            return self.answer({"error": "no"}, 401, X_Error_Message="Invalid credentials in Authorization header")
        if path == "/api/whoami-v2":
            return self.answer({"name": "someone", "type": "user"})
        if path == "/api/validate-yaml":
            return self.answer({"warnings": [{"message": "license is missing"}]})
        return self.repository(path, body, token)

    do_GET = do_HEAD = do_POST = do_PUT = do

    def repository(self, path, body, token):
        repo, rest = re.fullmatch(r"/(?:api/models/)?([\w-]+/[\w-]+?)(?:\.git)?(/.*)?", path).groups()
        if repo not in self.repos:
            return self.answer({"error": "no"}, 404, X_Error_Code="RepoNotFound")
        files, rest = self.repos[repo], rest or ""
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        if not rest or rest == "/revision/main":
            return self.answer({"id": repo, "sha": sha, "siblings": [{"rfilename": name} for name in files]})
        if rest.startswith("/revision/"):
            return self.answer({"error": "no"}, 404, X_Error_Code="RevisionNotFound")
        if rest.startswith("/tree/"):
            return self.answer([self.entry(name, content) for name, content in files.items()])
        if rest.startswith("/resolve/"):
            content = files[rest.split("/")[3]]
            oid = hashlib.sha256(content).hexdigest()
            return self.answer(content, ETag=f'"{oid}"', X_Repo_Commit=sha, Accept_Ranges="bytes")
        if self.command == "POST" and token != TOKEN:
            return self.answer({"error": "no"}, 403)
        return self.write(repo, rest, body)

    @staticmethod
    def entry(name, content):
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def write(self, repo, rest, body):
        if rest == "/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
            return self.answer(
                {"files": [{"path": n, "uploadMode": modes[n], "shouldIgnore": False, "oid": None} for n in names]}
            )
        address = f"http://127.0.0.1:{self.server.server_port}"
        if rest == "/info/lfs/objects/batch":
            asked = json.loads(body)["objects"]
            links = [{**one, "actions": {"upload": {"href": f"{address}/lfs/{one['oid']}"}}} for one in asked]
            return self.answer({"transfer": "basic", "objects": links})
        assert rest == "/commit/main", rest
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.repos[repo][value["path"]] = self.objects[value["oid"]]
        return self.answer({"commitUrl": f"{address}/{repo}/commit/1", "commitOid": "1" * 40})


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one empty repository; the token is that of its owner, the cache is a folder of the test."""
    handler = type("TestHub", (Hub,), {"repos": {REPO: {}}, "objects": {}, "readers": ("hf_reader",), "requests": []})
    constants = huggingface_hub.constants
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield handler
        server.shutdown()


@pytest.fixture
def cli(monkeypatch, capsys):
    """Exit code, output and messages of a command."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["svllreid", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            run()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def trained(small_config, tmp_path_factory):
    """A run's folder with a tested checkpoint, and another checkpoint of the same run."""
    folder = tmp_path_factory.mktemp("run")
    config = small_config({"MODEL.USE_TEXT": False, "OUTPUT_DIR": str(folder)})
    data = TrainingData.of(build_splits(config).train)
    for seed, name in enumerate(("tiny_1.pth", "tiny_2.pth")):
        model = build_model_for(config, data, clip="random")
        with torch.no_grad():
            model.bottleneck.running_mean.fill_(seed)
        rows = data.side_rows
        info = CheckpointInfo(
            config.to_yaml_tree(), len(data.labels), rows.num_cameras, rows.num_views,
            ["anna", "berta", "carl", "dora"], 2, seed + 1, svllreid.__version__,
        )  # fmt: skip
        save_checkpoint(folder / name, model, info)
    run_test(small_config({"TEST.WEIGHT": str(folder / "tiny_2.pth"), "OUTPUT_DIR": str(folder)}))
    return folder


@pytest.mark.parametrize("words", [(), ("push",)])
def test_help_teaches(cli, words):
    code, out, _ = cli("hub", *words, "--help")
    assert code == 0 and "Usage:" in out and len(out.splitlines()) > 5


def test_a_pushed_model_gives_the_same_features(cli, hub, trained):
    code, out, err = cli("hub", "push", REPO, trained / "tiny_2.pth")
    assert code == 0, err
    assert 'svllreid.Encoder.load("hf://my-org/people")' in out
    assert set(hub.repos[REPO]) == {"model.safetensors", "model.json", "metrics.json", "README.md"}
    here, there = Encoder.load(trained / "tiny_2.pth", device="cpu"), Encoder.load(f"hf://{REPO}", device="cpu")
    np.testing.assert_array_equal(here.encode(IMAGE, 1), there.encode(IMAGE, 1))
    assert here.spec == there.spec
    # As a Path, of which pathlib has removed a slash.
    assert Encoder.load(Path(f"hf://{REPO}"), device="cpu").spec == here.spec


def test_nothing_of_the_machine_and_no_names_are_uploaded(cli, hub, trained, market):
    assert cli("hub", "push", REPO, trained / "tiny_2.pth")[0] == 0
    for name, content in hub.repos[REPO].items():
        for secret in (str(trained), str(market), "anna", TOKEN):
            assert secret.encode() not in content, (name, secret)
    info = json.loads(hub.repos[REPO]["model.json"])
    assert info["pids"] == [0, 1, 2, 3] and info["config"]["DATASETS"]["NAMES"] == "market1501"


def test_places_among_the_changed_keys_are_not_uploaded(cli, hub, trained, tmp_path):
    for file in trained.glob("tiny_2.*"):
        shutil.copy(file, tmp_path)
    info = json.loads((tmp_path / "tiny_2.json").read_text())
    changed = {
        "MODEL.PRETRAINED": {"before": "/home/secret/clip.pt", "now": "openai"},
        "DATASETS.NAMES": {"before": "folder:/home/secret", "now": ["market1501", "veri:/home/secret"]},
        "DATASETS.ROOT_DIR": {"before": "/home/secret", "now": "data"},
        "SOLVER.STAGE2.BASE_LR": {"before": 1e-4, "now": 5e-4},
    }
    info["changes"] = [{"stage": 2, "epochs": 1, "steps": 0, "changed": changed}]
    info["config"]["MODEL"]["PRETRAINED"] = "/home/secret/clip.pt"
    (tmp_path / "tiny_2.json").write_text(json.dumps(info))
    code, _, err = cli("hub", "push", REPO, tmp_path / "tiny_2.pth")
    assert code == 0, err
    assert not [name for name, content in hub.repos[REPO].items() if b"secret" in content]
    assert json.loads(hub.repos[REPO]["model.json"])["changes"][0]["changed"] == {
        "MODEL.PRETRAINED": {"before": "clip.pt", "now": "openai"},
        "DATASETS.NAMES": {"before": "folder", "now": ["market1501", "veri"]},
        "SOLVER.STAGE2.BASE_LR": {"before": 1e-4, "now": 5e-4},
    }


def test_the_card(cli, hub, trained):
    assert cli("hub", "push", REPO, trained / "tiny_2.pth")[0] == 0
    card = hub.repos[REPO]["README.md"].decode()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "svllreid" and "# license: TO FILL IN" in front
    metrics = json.loads((trained / "metrics.json").read_text())
    assert f"{100 * metrics['mAP']:.1f} %" in text and "| mAP | rank-1 |" in text
    assert "market1501: 4 identities, 2 cameras" in text and "SIE_CAMERA: true" in text
    assert text.count("TO FILL IN") == 3
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    assert 'Encoder.load("hf://my-org/people")' in code and "(2, 384)" in code


def test_a_card_that_was_filled_in_is_kept(cli, hub, trained):
    hub.repos[REPO]["README.md"] = b"licence: mine"
    code, out, _ = cli("hub", "push", REPO, trained / "tiny_2.pth")
    assert code == 0 and "--new-card" in out and hub.repos[REPO]["README.md"] == b"licence: mine"
    assert cli("hub", "push", REPO, trained / "tiny_2.pth", "--new-card")[0] == 0
    assert b"# license: TO FILL IN" in hub.repos[REPO]["README.md"]


def test_metrics_of_another_checkpoint_are_left_out(cli, hub, trained):
    code, out, _ = cli("hub", "push", REPO, trained / "tiny_1.pth")
    assert code == 0 and "metrics.json is left out: it is of another checkpoint" in out
    assert "metrics.json" not in hub.repos[REPO]
    assert "was not tested" in hub.repos[REPO]["README.md"].decode()


def test_the_second_load_fetches_no_weights_and_works_offline(cli, hub, trained, monkeypatch):
    cli("hub", "push", REPO, trained / "tiny_2.pth")
    first = fetch_model(f"hf://{REPO}")
    hub.requests.clear()
    assert fetch_model(f"hf://{REPO}") == first
    assert not [path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path]
    hub.requests.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert Encoder.load(f"hf://{REPO}", device="cpu").encode(IMAGE).shape == (1, 384)
    assert not hub.requests
    with pytest.raises(HubError, match="my-org/other is not in the cache"):
        fetch_model("hf://my-org/other")


def test_without_a_network_the_cache_is_used(cli, hub, trained, monkeypatch):
    cli("hub", "push", REPO, trained / "tiny_2.pth")
    first = fetch_model(f"hf://{REPO}")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing answers
    assert fetch_model(f"hf://{REPO}") == first
    with pytest.raises(HubError, match="cannot be reached"):
        fetch_model("hf://my-org/other")


@pytest.mark.parametrize(
    ("token", "repo", "message"),
    [
        ("hf_wrong", REPO, "refuses the token; set HF_TOKEN"),
        ("hf_reader", REPO, "may not write to my-org/people"),
        (None, REPO, "needs a token: set HF_TOKEN"),
        (TOKEN, "my-org/other", "there is no repository my-org/other"),
        (TOKEN, "no/such/name", "'no/such/name' is no name of a repository"),
    ],
)
def test_what_the_hub_refuses_is_one_message(cli, hub, trained, monkeypatch, token, repo, message):
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    code, out, err = cli("hub", "push", repo, trained / "tiny_2.pth")
    assert code == 2 and not out and message in err and err.count("\n") == 1 and (not token or token not in err)
    assert not hub.repos[REPO]


@pytest.mark.parametrize("kind", ["missing", "text", "no json", "other weights"])
def test_a_file_that_is_no_checkpoint_is_refused_before_anything_is_sent(cli, hub, trained, tmp_path, kind):
    file = tmp_path / "weights.pth"
    if kind == "text":
        file.write_text("hello")
    elif kind == "no json":
        file.write_bytes((trained / "tiny_2.pth").read_bytes())
    elif kind == "other weights":
        torch.save({"weight": torch.ones(2)}, file)
    code, _, err = cli("hub", "push", REPO, file)
    assert code == 2 and str(file) in err and err.count("\n") == 1 and not hub.requests


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://my-org/other", "there is no repository my-org/other"),
        ("hf://my-org/people@v9", "my-org/people on .* has no revision v9"),
        ("hf://my-org/people", "holds no model.safetensors"),
        ("hf://", "'' is no name of a repository"),
        ("hf://a/b/c", "'a/b/c' is no name"),
    ],
)
def test_what_cannot_be_fetched_is_one_error(hub, address, message):
    hub.repos[REPO]["pytorch_model.bin"] = b"not fetched"
    with pytest.raises(HubError, match=message):
        Encoder.load(address, device="cpu")
    assert not [path for _, path, _ in hub.requests if path.endswith(".bin")]


def test_weights_of_the_hub_are_read_as_safely_as_files(hub):
    hub.repos[REPO].update({"model.safetensors": b"hello", "model.json": b"{}"})
    with pytest.raises(CheckpointError, match="not a readable weight file"):
        Encoder.load(f"hf://{REPO}", device="cpu")


def test_a_server_that_fails_is_one_error(hub, monkeypatch):
    monkeypatch.setattr(Hub, "repository", lambda self, *_: self.answer({"error": "broken"}, 418))
    with pytest.raises(HubError, match=r"my-org/people|418"):
        fetch_model(f"hf://{REPO}")


@pytest.mark.slow
def test_the_documented_commands(hub, trained, tmp_path):
    """In a process of its own, which knows the hub, the token and the cache from its environment alone."""
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "people").symlink_to(trained)
    environment = {
        **os.environ, "HF_ENDPOINT": huggingface_hub.constants.ENDPOINT, "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    commands = [line for block in re.findall(r"```bash\n(.*?)```", DOCS, re.S) for line in block.splitlines()]
    pushes = [shlex.split(line, comments=True) for line in commands if line.startswith("svllreid")]
    assert pushes
    for words in pushes:
        words = [re.sub(r"tiny_\d+", "tiny_2", word) for word in words[1:]]
        subprocess.run([sys.executable, "-m", "svllreid", *words], cwd=tmp_path, env=environment, check=True)
    code = "".join(re.findall(r"```python\n(.*?)```", DOCS, re.S))
    assert "Encoder.load" in code
    from PIL import Image

    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(IMAGE).save(tmp_path / name)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)

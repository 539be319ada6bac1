"""`svllreid gallery` and `svllreid search` as a user meets them: output, files, messages and exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from svllreid import Encoder, TextEncoder, build_model
from svllreid.calibration.fit import calibrate
from svllreid.cli.main import run
from svllreid.evaluation.table_file import read_table
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint

PEOPLE = [(0, "anna", 0), (1, "anna", 1), (2, "bob", 0), (3, "bob", 2), (4, "", 1), (5, "7", 2)]


@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    """Makes a checkpoint, of each seed with other weights."""
    import torch

    folder = tmp_path_factory.mktemp("weights")

    def make(seed=0):
        config, path = small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": False}), folder / f"{seed}.pth"
        if not path.exists():
            model = build_model(config, num_classes=2)
            torch.nn.init.constant_(next(model.parameters()), seed / 10)
            counts = {"num_classes": 2, "num_cameras": 1, "num_views": 1}
            info = CheckpointInfo(config=config.to_yaml_tree(), **counts, pids=[1, 2], stage=2, epoch=1, version="0")
            save_checkpoint(path, model, info, model.state_dict())
        return path

    return make


@pytest.fixture
def crops(tmp_path):
    """A folder of six images with cameras in their names, and a table of them with identities."""
    folder, noise = tmp_path / "crops", np.random.default_rng(0)
    folder.mkdir()
    lines = ["path,pid,camid,time,tags"]
    for number, pid, camid in PEOPLE:
        file = folder / f"{number}_c{camid + 1}.png"
        colour = noise.integers(0, 256, (1, 1, 3))
        pixels = np.clip(colour + noise.integers(-60, 60, (32, 16, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
        lines.append(f"crops/{file.name},{pid},{camid},{1777593600 + number},{'night' if number % 2 else 'day;door'}")
    (tmp_path / "crops.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Runs a command in this process: exit code, output and messages."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["svllreid", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            run()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture
def filled(cli, crops, weights):
    words = ("--gallery", "people.db", "--weights", weights())
    assert cli("gallery", "create", *words, "--thumbnails")[0] == 0
    assert cli("gallery", "add", "crops.csv", *words)[0] == 0
    return words


def test_a_gallery_from_begin_to_end(cli, crops, weights, tmp_path):
    words = ("--gallery", "people.db", "--weights", weights())
    code, out, _ = cli("gallery", "create", *words, "--thumbnails")
    assert code == 0 and "people.db: an empty gallery for features of" in out and "people.thumbnails" in out
    code, _, messages = cli("gallery", "create", *words)
    assert code == 2 and "holds a gallery named crops already; give another file or name" in messages
    code, out, messages = cli("gallery", "add", "crops", *words, "--tag", "entrance")
    assert (code, out) == (0, "people.db: 6 crops added, 0 were there\n")
    code, out, _ = cli("gallery", "add", "crops.csv", *words)
    assert code == 0 and out.startswith("people.db: 0 crops added, 6 were there, 6 of them with other labels")
    code, out, _ = cli("gallery", "add", "crops.csv", *words, "--update")
    assert (code, out) == (0, "people.db: 0 crops added, 6 were there, 6 of them got new labels\n")

    code, out, _ = cli("gallery", "list", "--gallery", "people.db", "--json", "--camera", 1)
    assert code == 0 and {crop["pid"] for crop in json.loads(out)} == {"anna", None}
    code, out, _ = cli("gallery", "list", "--gallery", "people.db", "--limit", 2)
    assert "2 of 6 crops; --limit shows more" in out and "2026-05-01 00:00:0" in out and "time (UTC)" in out
    code, out, _ = cli("gallery", "list", "--gallery", "people.db", "--pid", 7, "--json")
    assert [crop["pid"] for crop in json.loads(out)] == [7]
    code, out, _ = cli("gallery", "list", "--gallery", "people.db", "--after", "2026-05-01T00:00:02+00:00", "--json")
    assert len(json.loads(out)) == 4

    code, out, _ = cli("gallery", "stats", "--gallery", "people.db", "--json")
    found = json.loads(out)
    assert (found["crops"], found["identities"], found["unidentified"], found["thumbnails"]) == (6, 3, 1, 6)
    assert found["cameras"] == {"0": 2, "1": 2, "2": 2} and found["spec"]["fingerprint"]
    code, out, _ = cli("gallery", "stats", "--gallery", "people.db")
    assert "3, and 1 crops without one" in out and "0: 2, 1: 2, 2: 2" in out

    code, out, _ = cli("gallery", "export", "--gallery", "people.db", "-o", "people.parquet", "--pid", "anna")
    assert (code, out) == (0, "people.parquet: 2 crops\n")
    table, spec = read_table(tmp_path / "people.parquet")
    assert set(table.columns["pid"]) == {"anna"} and spec.fingerprint == found["spec"]["fingerprint"]
    code, _, messages = cli("gallery", "export", "--gallery", "people.db", "-o", "people.parquet")
    assert code == 2 and "people.parquet is there already; name another output" in messages
    code, _, messages = cli("gallery", "export", "--gallery", "people.db", "-o", "no.parquet", "--pid", "nobody")
    assert code == 2 and "no crop meets the conditions" in messages

    code, out, _ = cli("gallery", "remove", "--gallery", "people.db", "--pid", "anna", "--dry-run")
    assert (code, out) == (0, "people.db: 2 crops would be removed; 6 are there\n")
    code, out, _ = cli("gallery", "remove", "--gallery", "people.db", "--pid", "anna")
    assert (code, out) == (0, "people.db: 2 crops were removed; 4 are there\n")
    code, out, _ = cli("gallery", "remove", "--gallery", "people.db", "--path", "crops/2_c1.png")
    assert (code, out) == (0, "people.db: 1 crops were removed; 3 are there\n")
    code, _, messages = cli("gallery", "remove", "--gallery", "people.db")
    assert code == 2 and "nothing says which crops to remove" in messages
    code, out, _ = cli("gallery", "compact", "--gallery", "people.db")
    assert (code, out) == (0, "people.db: written anew\n")
    code, out, _ = cli("gallery", "add", "people.parquet", "--gallery", "people.db", "--tag", "back")
    assert (code, out) == (0, "people.db: 2 crops added, 0 were there\n")


def test_migrated(cli, filled, weights, crops):
    code, out, _ = cli("gallery", "migrate", "--gallery", "people.db", "--weights", weights(1))
    assert code == 0 and "people.db: all crops have features of" in out
    code, _, messages = cli("gallery", "add", "crops", *filled)
    assert code == 2 and "weights" in messages
    assert cli("gallery", "add", "crops", "--gallery", "people.db", "--weights", weights(1))[0] == 0
    (crops / "0_c1.png").unlink()
    code, _, messages = cli("gallery", "migrate", "--gallery", "people.db", "--weights", weights())
    assert code == 2 and "1 crops cannot be embedded again" in messages and "(--drop-missing)" in messages
    code, out, _ = cli("gallery", "migrate", "--gallery", "people.db", "--weights", weights(), "--drop-missing")
    assert code == 0 and out.endswith("; 1 left out\n")


def test_texts_are_printed_as_they_are(cli, filled, crops, tmp_path):
    (tmp_path / "odd.csv").write_text("path,pid,tags\ncrops/0_c1.png,[/bold] :car:,[red]x\n")
    assert cli("gallery", "add", "odd.csv", *filled, "--update")[0] == 0
    for words in (("gallery", "list", "--gallery", "people.db"), ("search", "crops/0_c1.png", *filled)):
        code, out, messages = cli(*words)
        assert code == 0 and "[/bold] :car:" in out, messages
    assert "[red]x" in cli("gallery", "stats", "--gallery", "people.db")[1]


def test_unreadable_images(cli, filled, crops):
    (crops / "broken.png").write_bytes(b"no image")
    code, _, messages = cli("gallery", "add", "crops", *filled)
    assert code == 2 and "broken.png" in messages and "--skip-unreadable" in messages
    code, out, messages = cli("gallery", "add", "crops", *filled, "--skip-unreadable")
    assert code == 0 and "1 could not be read" in out and "broken.png" in messages


def test_search_as_a_table_and_as_json(cli, filled, crops):
    code, out, _ = cli("search", "crops/2_c1.png", *filled, "-k", 2)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "crops/2_c1.png" and "bob" in lines[4] and "2_c1.png" in lines[4], out
    code, out, _ = cli("search", "crops/2_c1.png", *filled, "-k", 2, "--json")
    answer = json.loads(out)
    assert answer["images"] == ["crops/2_c1.png"] and answer["threshold"] is None
    hit = answer["hits"][0]
    assert (hit["pid"], hit["camid"], hit["tags"], hit["time"]) == ("bob", 0, ["day", "door"], 1777593602.0)
    assert hit["distance"] == pytest.approx(0, abs=1e-2) and hit["probability"] is None
    code, out, _ = cli("search", "crops/2_c1.png", *filled, "--other-cameras", "--json")
    assert {hit["camid"] for hit in json.loads(out)["hits"]} == {1, 2}
    code, out, _ = cli("search", "crops/2_c1.png", "crops/5_c3.png", *filled, "--each", "--json", "-k", 1)
    assert [answer["hits"][0]["pid"] for answer in json.loads(out)] == ["bob", 7]
    code, out, _ = cli("search", "crops/2_c1.png", "crops/5_c3.png", *filled, "--combine", "best", "--json", "-k", 2)
    assert {hit["pid"] for hit in json.loads(out)["hits"]} == {"bob", 7}
    code, out, _ = cli("search", "crops/2_c1.png", *filled, "--group-by", "pid", "--rerank", "--json")
    assert len(json.loads(out)["hits"]) == 4
    code, out, _ = cli("search", "crops/2_c1.png", *filled, "--threshold", "0.0", "--not-camera", 0)
    assert code == 0 and "nobody in the gallery within distance 0.0000" in out


def test_search_by_words(cli, filled, weights, monkeypatch):
    encoder = Encoder.load(weights(), device="cpu")

    class Words:
        spec = encoder.spec

        def queries(self, texts):
            return np.eye(len(texts), encoder.spec.dim, dtype=np.float32)

    monkeypatch.setattr(TextEncoder, "load", lambda *given, **options: Words())
    code, out, _ = cli("search", "--text", "red", "--text", "blue", *filled, "-k", 2, "--json")
    assert code == 0 and [(answer["text"], len(answer["hits"])) for answer in json.loads(out)] == [
        ("red", 2),
        ("blue", 2),
    ]
    code, out, _ = cli("search", "--text", "red", *filled, "--camera", 9)
    assert code == 0 and "no crop of the gallery meets the conditions" in out
    code, _, messages = cli("search", "--text", "red", *filled, "--other-cameras")
    assert code == 2 and "a description has no camera to leave out; name the camera (--not-camera)" in messages
    code, _, messages = cli("search", "--text", "red", *filled, "--threshold", 1)
    assert code == 2 and "leave them out of a search by words" in messages


def test_search_with_a_calibration(cli, filled, crops, weights, tmp_path):
    encoder = Encoder.load(weights(), device="cpu")
    random = np.random.default_rng(0)
    pids = np.repeat(np.arange(60), 4)
    shape = (len(pids), encoder.spec.dim)
    features = random.normal(size=(60, shape[1]))[pids] + random.normal(scale=0.2, size=shape)
    made = calibrate(
        features.astype(np.float32), pids, np.tile([0, 0, 1, 1], 60), spec=encoder.spec, dataset="drawn people"
    )
    made.save(tmp_path / "people.json")
    code, out, messages = cli("search", "crops/2_c1.png", *filled, "--calibration", "people.json", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["threshold"] == pytest.approx(made.threshold(made.usual_rate())), messages
    assert answer["hits"][0]["pid"] == "bob" and 0 < answer["hits"][0]["probability"] <= 1
    code, out, _ = cli(
        "search", "crops/2_c1.png", *filled, "--calibration", "people.json", "--camera", 9, "--picture", "a.png"
    )
    assert code == 0 and "no crop of the gallery meets the conditions" in out and "probability" not in out
    code, out, _ = cli("search", "crops/2_c1.png", *filled, "--threshold", 0, "--picture", "a.png")
    assert code == 0 and "nobody in the gallery within distance 0.0000" in out
    code, _, messages = cli("search", "crops/5_c3.png", "crops/2_c1.png", *filled, "--calibration", "people.json")
    assert code == 0 and "the query is a mean of 2 images, and the calibration is of single images" in messages
    code, _, messages = cli("search", "crops/2_c1.png", *filled, "--calibration", "absent.json")
    assert code == 2 and "absent.json" in messages
    cli("gallery", "migrate", "--gallery", "people.db", "--weights", weights(1))
    code, _, messages = cli(
        "search", "crops/2_c1.png", "--gallery", "people.db", "--weights", weights(1), "--calibration", "people.json"
    )
    assert code == 2 and "weights" in messages


def test_picture_of_a_search(cli, filled, crops, tmp_path):
    code, out, _ = cli("search", "crops/2_c1.png", *filled, "-k", 3, "--picture", "hits.png")
    assert code == 0 and out.endswith("picture: hits.png\n")
    with Image.open(tmp_path / "hits.png") as picture:
        width, height = picture.size
        assert picture.format == "PNG" and width > 4 * 96 and height > 128
    for file in crops.iterdir():
        if file.name != "2_c1.png":
            file.unlink()  # thumbnails take their place
    assert cli("search", "crops/2_c1.png", *filled, "-k", 3, "--picture", "again.png")[0] == 0
    with Image.open(tmp_path / "hits.png") as one, Image.open(tmp_path / "again.png") as other:
        assert one.size == other.size
        difference = np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16))
        assert difference.mean() < 5, "a thumbnail looks like its picture"
    code, _, messages = cli("search", "crops/2_c1.png", *filled, "--picture", "crops")
    assert code == 2 and "crops" in messages


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search", "--gallery", "people.db"), "nothing to search for"),
        (("search", "crops/a.png", "--gallery", "people.db"), "needs the model that embeds images (--weights)"),
        (
            ("search", "a.png", "--gallery", "people.db", "--far", "0.01"),
            "--far chooses the threshold of a --calibration",
        ),
        (("search", "crops/a.png", "--clip", "openai", "--gallery", "people.db"), "describe somebody with --text"),
        (("search", "absent.png", "--gallery", "people.db", "--weights", "x.pth"), "absent.png is no file"),
        (("search", "a.png", "--text", "red", "--gallery", "people.db"), "searched for apart"),
        (("gallery", "stats", "--gallery", "absent.db"), "there is no such gallery"),
        (("gallery", "stats", "--gallery", "people.txt"), "ends in .db"),
        (("gallery", "add", "absent", "--gallery", "people.db"), "absent"),
        (("gallery", "add", "crops", "--gallery", "people.db"), "needs the model that embeds images (--weights)"),
        (("gallery", "list", "--gallery", "people.db", "--after", "noon"), "neither seconds since 1970"),
        (("gallery", "export", "--gallery", "people.db", "-o", "a.txt"), ".parquet"),
    ],
)
def test_mistakes_are_one_message(cli, words, message, tmp_path):
    (tmp_path / "crops").mkdir(exist_ok=True)
    Image.new("RGB", (2, 4)).save(tmp_path / "crops/a.png")
    code, out, messages = cli(*words)
    assert (code, out) == (2, "") and message in messages


def test_mistakes_with_a_gallery(cli, filled, crops):
    for words, message in (
        (("search", "absent.png", *filled), "absent.png"),
        (("search", "crops.csv", *filled), "crops.csv"),
        (("search", "crops/2_c1.png", *filled, "--gap", "-1"), "gap is -1.0"),
        (("gallery", "remove", "--gallery", "people.db", "--older-than", "long"), "is no length of time"),
        (("gallery", "stats", "--gallery", "people.db", "--name", "others"), "holds no gallery named others"),
        (("gallery", "stats", "--gallery", "people.db", "--name", "a-b"), "cannot be named"),
        (("gallery", "create", *filled, "--name", "more", "--index", "BEST"), "give one of FLAT"),
    ):
        code, _, messages = cli(*words)
        assert code == 2 and message in messages, (words, messages)
    (crops / "plain.png").write_bytes((crops / "2_c1.png").read_bytes())
    code, _, messages = cli("search", "crops/plain.png", *filled, "--other-cameras")
    assert code == 2 and "does not tell its camera" in messages and "(--not-camera)" in messages


def test_help_does_without_torch_and_milvus():
    script = "import sys; sys.argv = ['svllreid', 'gallery', '--help']\nfrom svllreid.cli.main import run\n"
    script += "try:\n run()\nexcept SystemExit: print({'torch', 'pymilvus', 'grpc', 'numpy'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("set()\n"), ended.stdout[-200:]

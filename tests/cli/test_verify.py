"""`svllreid calibrate` and `svllreid verify` as commands, and the commands and code of docs/decisions.md."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

import svllreid
from svllreid.cli.main import run
from svllreid.models.checkpoint import CheckpointInfo, save_checkpoint

from ..conftest import draw_person

TEXT = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.splitlines()]


@pytest.fixture
def workplace(small_config, tmp_path, monkeypatch):
    """The folder that docs/decisions.md speaks of: labelled people, a model, two images and two folders."""
    rows = ["path,pid,camid"]
    for pid in range(12):
        for shot in range(4):
            draw_person(pid, shot).save(tmp_path / f"{pid}_{shot}.png")
            rows.append(f"{pid}_{shot}.png,p{pid},{shot % 2}")
    (tmp_path / "labelled.csv").write_text("\n".join(rows))
    for number, name in enumerate(("a", "b")):
        draw_person(1, 50 + number).save(tmp_path / f"{name}.jpg")
    for day in ("monday", "tuesday"):
        (tmp_path / "seen" / day).mkdir(parents=True)
        shutil.copy(tmp_path / "1_0.png", tmp_path / "seen" / day)
    config = small_config({"MODEL.USE_TEXT": False, "MODEL.SIE_CAMERA": False})
    with torch.random.fork_rng(devices=[]):
        model = svllreid.build_model(config, num_classes=2)
    tree = config.to_yaml_tree()
    info = CheckpointInfo(
        config=tree, num_classes=2, num_cameras=1, num_views=1, pids=[1, 2], stage=2, epoch=1, version="0"
    )
    save_checkpoint(tmp_path / "outputs" / "people" / "tiny_10.pth", model, info, model.state_dict())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    """Exit code, output and messages of a command, in this process."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["svllreid", *words])
        with pytest.raises(SystemExit) as end:
            run()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


def test_the_documented_commands_and_code(workplace, call):
    outputs = []
    for command in COMMANDS:
        words = shlex.split(command)
        assert words[0] == "svllreid"
        code, output, messages = call(*words[1:])
        assert code == 0, messages
        outputs.append(output)
    assert len(outputs) == 6
    assert "labelled.csv: 48 images, 12 identities" in outputs[0]
    assert "0.001              not supported: needs 10,000 impostor pairs, 1,056 are there" in outputs[0]
    assert (workplace / "outputs" / "reliability.png").stat().st_size > 1000
    assert "probability, isotonic" in outputs[2]
    assert re.fullmatch(
        r"distance     \d\.\d{4}\nprobability  \d\.\d{3} that it is the same \(prior 0\.5\)\n"
        r"decision     same: the threshold is \d\.\d{4}\n"
        r"false-accept rate 0\.01 for all pairs: measured \S+, 95 % interval \S+ to \S+\n",
        outputs[3],
    ), outputs[3]
    answer = json.loads(outputs[4])
    assert answer["same"] is True and answer["prior"] == 0.1 and answer["false_accept_rate"] == 0.01
    assert (
        "decision     none: it needs a --calibration, which `svllreid calibrate`" in outputs[5]
        and "distance     0.0000" in outputs[5]
    )
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(compile(block, "docs/decisions.md", "exec"), names)
    assert names["same"] is True and names["rate"].low <= names["rate"].rate <= names["rate"].high
    assert float(names["distance"]) == pytest.approx(answer["distance"], abs=1e-6)


def test_different_people_end_with_0_too(workplace, call):
    weights = ("--weights", "outputs/people/tiny_10.pth")
    assert call("calibrate", "labelled.csv", *weights, "-o", "c.json")[0] == 0
    code, output, _ = call("verify", "0_0.png", "5_0.png", *weights, "--calibration", "c.json")
    assert code == 0 and "decision     different: the threshold is" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["calibrate", "labelled.csv", "-o", "c.json"], "name the model that embeds them (--weights)"),
        (["calibrate", "none.csv", "-o", "c.json", "--weights", "outputs/people/tiny_10.pth"], "none.csv"),
        (
            ["calibrate", "labelled.csv", "-o", "c.json", "--weights", "outputs/people/tiny_10.pth", "--method", "x"],
            "method 'x' is not known; choose one of logistic, isotonic",
        ),
        (
            ["verify", "a.jpg", "b.jpg", "--weights", "outputs/people/tiny_10.pth", "--calibration", "labelled.csv"],
            "is no readable calibration",
        ),
        (["verify", "a.jpg", "none.jpg", "--weights", "outputs/people/tiny_10.pth"], "none.jpg"),
        (
            ["verify", "a.jpg", "b.jpg", "--weights", "outputs/people/tiny_10.pth", "--far", "0.01"],
            "--far and --prior say which decision of a --calibration is meant",
        ),
    ],
)
def test_mistakes_end_in_one_message(workplace, call, words, message):
    code, output, messages = call(*words)
    assert code == 2 and output == ""
    assert message in messages.splitlines()[-1] and "Traceback" not in messages
    assert not Path("c.json").exists()


def test_a_rate_that_is_not_supported_ends_in_one_message(workplace, call):
    weights = ("--weights", "outputs/people/tiny_10.pth")
    assert call("calibrate", "labelled.csv", *weights, "-o", "c.json")[0] == 0
    code, _, messages = call("verify", "a.jpg", "b.jpg", *weights, "--calibration", "c.json", "--far", "1e-6")
    assert code == 2 and "needs 10,000,000 impostor pairs, 1,056 are there); supported: 0.01" in messages
    code, _, messages = call("verify", "a.jpg", "b.jpg", *weights, "--calibration", "c.json", "--prior", "2")
    assert code == 2 and "the prior is 2.0" in messages

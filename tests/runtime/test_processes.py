"""Two processes on the CPU: the gradients, weights and metrics of one process, and a clean end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from svllreid import build_model
from svllreid.build import build_stage1, build_stage2
from svllreid.cli.main import run
from svllreid.jobs.testing import run_test
from svllreid.losses.identity import identity_loss
from svllreid.losses.simclr import simclr_loss
from svllreid.losses.supcon import supcon_loss
from svllreid.losses.triplet import triplet_loss

from . import processes_worker as worker

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    files = [folder / f"{process_rank}.pt" for process_rank in range(2)]
    command = [sys.executable, worker.__file__, str(free_port()), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return [torch.load(file, weights_only=True) for file in files]


def close(found, expected):
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6, name


def test_all_processes_end_with_the_same_gradient(processes):
    for stage in ("stage1", "stage2", "alone"):  # alone: one process has a single identity
        assert all(torch.equal(a, processes[1][stage][name]) for name, a in processes[0][stage].items())


def test_stage2_equals_one_process_that_plays_both(processes):
    config = worker.settings()
    model = build_model(config, num_classes=8).train()
    task = build_stage2(config, model)
    total, augmented = 0, []
    for process_rank in range(2):
        batch = worker.batch_of(process_rank)
        features, finals = model.encode_augmented(
            batch.images, (batch.augmented1, batch.augmented2), batch.camids, batch.viewids
        )
        for score in model.classify(features):
            total = total + task.weights.identity * identity_loss(score, batch.labels, True) / 2
        for feature in features:
            total = total + task.weights.triplet * triplet_loss(feature, batch.labels, 0.3) / 2
        total = total + task.weights.i2t * identity_loss(features.proj @ task.text_features.T, batch.labels, True) / 2
        augmented.append([model.image_mlp(final) for final in finals])
    total = total + task.weights.ssl * simclr_loss(*(torch.cat(copies) for copies in zip(*augmented, strict=True)))
    total.backward()
    close(processes[0]["stage2"], worker.gradients(task))


def test_stage1_equals_one_process_that_plays_both(processes):
    """With three identities on one process and five on the other."""
    config = worker.settings()
    model = build_model(config, num_classes=8).train()
    task = build_stage1(config, model)
    total, heads = 0, []
    for process_rank in range(2):
        features, labels = worker.stage1_features(process_rank), worker.STAGE1_LABELS[process_rank]
        identities, column = labels.unique(return_inverse=True)
        generator = torch.Generator().manual_seed(process_rank)
        prompts = model.prompt_learner(identities)
        augmented = [task.augment(prompts, generator) for _ in range(2)]
        text, *encoded = (model.encode_prompts(part) for part in (prompts, *augmented))
        for anchors, others in ((features, text[column]), (text[column], features)):
            total = total + supcon_loss(anchors, others, labels, labels) / 2
        heads.append([model.text_mlp(view) for view in encoded])
    total = total + task.ssl_weight * simclr_loss(*(torch.cat(view) for view in zip(*heads, strict=True)))
    total.backward()
    close(processes[0]["stage1"], worker.gradients(task))


def test_rows_are_gathered_in_order_of_process_rank(processes):
    assert processes[0]["rows"].tolist() == processes[1]["rows"].tolist() == [[0], [10], [11]]
    assert (processes[0]["first"], processes[1]["first"]) == (0, 1)


def test_an_identity_on_two_processes_is_no_negative_of_itself(processes):
    """Rows 0, 1 here and 0, 1, 2 there, each a unit vector: only different ones are negatives."""
    mean = (processes[0]["shared"] + processes[1]["shared"]) / 2
    e = torch.exp(torch.tensor(10.0))
    shared, alone = torch.log(1 + 6 / e), torch.log(1 + 8 / e)  # rows 0 and 1 have 3 others, twice; row 2 has 4
    expected = (4 * shared + alone) / 5
    assert mean.item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.fixture
def train(monkeypatch, capfd):
    """Runs `svllreid train --devices 2`, started from this process; exit code, output and messages of all."""
    before = {number: signal.getsignal(number) for number in SIGNALS}  # the launcher's stay otherwise
    monkeypatch.setenv("COLUMNS", "200")

    def run_two(folder, arguments):
        words = ["svllreid", "train", "--devices", "2", *arguments, f"OUTPUT_DIR={folder}"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            run()
        return end.value.code, *capfd.readouterr()

    yield run_two
    for number, handler in before.items():
        signal.signal(number, handler)


def test_two_processes_train_evaluate_and_write_once(train, small_arguments, small_config, tmp_path):
    code, out, err = train(tmp_path / "two", small_arguments)
    assert code == 0, err
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert out.count("market1501") == 1 and metrics["num_queries"] == 8
    log = (tmp_path / "two" / "log.txt").read_text()
    assert log.count("stage 2 epoch 2: loss") == 1
    weight = str(tmp_path / "two" / "tiny_2.pth")
    alone = run_test(small_config({"TEST.WEIGHT": weight, "OUTPUT_DIR": str(tmp_path / "one")}))
    for name in ("mAP", "mINP", "rank1", "rank5", "rank10"):
        assert alone[name] == pytest.approx(metrics[name], abs=1e-12)


@pytest.mark.slow
def test_two_processes_that_have_finished_say_so(train, small_arguments, tmp_path):
    for _ in range(2):
        code, _, err = train(tmp_path, small_arguments)
        assert code == 0, err
    assert "this run is complete" in err


@pytest.mark.slow
def test_shared_out_weights_end_as_whole_ones(train, small_arguments, tmp_path):
    """FSDP: the same run, killed once on the way, with every process holding a share of the image encoder."""
    arguments = [*small_arguments, "SOLVER.STAGE2.EMA_DECAY=0.5"]
    ends = {}
    for name, key in (("whole", "SOLVER.SHARD=false"), ("shared", "SOLVER.SHARD=true")):
        trial = ["SOLVER.STAGE2.CHECKPOINT_PERIOD=1"]
        code, _, err = train(tmp_path / name, [*arguments, key, *trial])
        assert code == 0, err
        ends[name] = torch.load(tmp_path / name / "tiny_2.pth", weights_only=True)
    for name, value in ends["whole"].items():
        torch.testing.assert_close(ends["shared"][name], value, atol=2e-5, rtol=1e-3, msg=name)
    folder = tmp_path / "shared"
    for file in (folder / "tiny_2.pth", folder / "state" / "stage2.json"):
        file.unlink()
    state = torch.load(folder / "state" / "stage2.pt", weights_only=True)
    assert all(value.shape == ends["shared"][name].shape for name, value in state["model"].items())
    state["epoch"] = 1
    torch.save(state, folder / "state" / "stage2.pt")
    (folder / "state" / "stage2.json").write_text('{"settled": 1}')
    code, _, err = train(folder, [*arguments, "SOLVER.SHARD=true", *trial])
    assert code == 0, err


def kill_second(folder, ended):
    """Kill the second of the two processes once stage 2 has saved its state; whether it came to that."""
    while not (folder / "state" / "stage2.pt").is_file():
        if ended.wait(0.1):
            return False
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    [second] = [int(pid) for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(second, signal.SIGKILL)
    return True


@pytest.mark.slow  # jobs/test_launching.py has the launcher's part of it
def test_a_process_that_dies_ends_all(train, small_arguments, tmp_path):
    arguments = [*small_arguments, "SOLVER.STAGE2.MAX_EPOCHS=500", "SOLVER.STAGE2.EVAL_PERIOD=500"]
    ended = threading.Event()
    with ThreadPoolExecutor(1) as helper:
        killed = helper.submit(kill_second, tmp_path, ended)
        code, _, err = train(tmp_path, arguments)
        ended.set()
    assert killed.result() and code == 1, err
    assert "ended with code -9, so the others were stopped" in err and "The same command continues" in err


@pytest.mark.slow  # jobs/test_launching.py has the launcher's part of it
def test_a_users_mistake_is_one_message_and_exit_2(train, small_arguments, tmp_path):
    code, _, err = train(tmp_path / "out", [*small_arguments, "SOLVER.STAGE2.IMS_PER_BATCH=6"])
    assert code == 2
    assert "cannot be split evenly over 2 processes" in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()

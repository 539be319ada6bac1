"""On a GPU: both stages in the published precision, and features as the CPU's."""

import csv

import numpy as np
import pytest
import torch
from rich.console import Console

import svllreid
from svllreid import Encoder
from svllreid.evaluation.camera_pairs import compare_cameras
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train
from svllreid.rendered import pretraining, recipe
from svllreid.training.state import snapshot

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "tf32", "32"])
def test_training_on_a_gpu(small_config, market, tmp_path, precision):
    config = small_config({"OUTPUT_DIR": str(tmp_path), "SOLVER.PRECISION": precision})
    metrics = train(config, Options(device="cuda"))
    assert 0 < metrics["mAP"] <= 1
    images = sorted((market / "Market-1501-v15.09.15" / "query").iterdir())
    gpu = Encoder.load(tmp_path / "tiny_2.pth", device="cuda")
    cpu = Encoder.load(tmp_path / "tiny_2.pth", small_config({"SOLVER.PRECISION": "32"}), device="cpu")
    assert abs(gpu.encode(images) - cpu.encode(images)).max() < 1e-2
    assert (gpu.spec.precision, gpu.spec.fingerprint) == (precision, cpu.spec.fingerprint)


def test_equal_rows_on_a_gpu_are_at_distance_zero():
    features = torch.randn(3000, 384, device="cuda") + 3
    features[2000:] = features[:1000]
    distances = svllreid.distances(features[900:1100], features)
    assert distances.device.type == "cuda"
    assert torch.equal(distances == 0, (features[900:1100, None] == features).all(dim=2))
    assert torch.equal(distances[:, 2000:], distances[:, :1000])


def test_an_interrupted_run_on_a_gpu_continues(small_config, tmp_path, monkeypatch):
    from svllreid.training.loop import StageRun

    original = StageRun._run_epoch
    monkeypatch.setattr(StageRun, "_run_epoch", lambda self, epoch: original(self, epoch) if epoch == 1 else _stop())
    config = small_config({"OUTPUT_DIR": str(tmp_path)})
    with pytest.raises(KeyboardInterrupt):
        train(config, Options(device="cuda"))
    monkeypatch.setattr(StageRun, "_run_epoch", original)
    assert train(config, Options(device="cuda")) is not None


def test_a_snapshot_of_a_gpu_stays_when_training_goes_on():
    weight = torch.arange(10_000_000, device="cuda")
    copy = snapshot({"weight": weight})["weight"]
    weight.zero_()
    assert copy.is_pinned() and torch.equal(copy, torch.arange(10_000_000))


def _stop():
    raise KeyboardInterrupt


def test_pretraining_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "TEST_SITES", 4)
    small = recipe.Recipe(sites=1, people=16, images=1, size=(32, 16), epochs=1, batch_size=8)
    scores = pretraining.pretrain(small, tmp_path, device="cuda", console=Console(quiet=True))
    assert 0 < scores["reid_mAP"] < 1 and (tmp_path / pretraining.WEIGHTS).is_file()


@pytest.mark.parametrize("cameras", [True, False])
def test_evaluation_on_a_gpu_equals_the_cpu(cameras):
    """With equal images, so that there are ties, and with junk."""
    random = np.random.default_rng(3)
    q_feats, g_feats = (random.integers(-3, 4, (count, 16)).astype(np.float32) for count in (150, 900))
    q_feats, g_feats = q_feats + 0.25, g_feats + 0.25
    g_feats[600:700] = g_feats[:100]
    pids = [random.integers(0, 20, count) for count in (150, 900)]
    camids = [random.integers(0, 3, count) for count in (150, 900)] if cameras else [None, None]
    data = (q_feats, g_feats, *pids, *camids)
    # Re-ranked distances of equal images differ in their last bits, so ties are broken by chance there.
    distinct = [random.standard_normal((count, 16), np.float32) for count in (150, 900)]
    for options, features in (
        ({}, data[:2]),
        ({"metric": "cosine"}, data[:2]),
        ({"rerank": RerankOptions(10, 4)}, distinct),
    ):
        cpu, gpu = (
            svllreid.evaluate_features(*features, *data[2:], **options, device=device) for device in ("cpu", "cuda")
        )
        assert abs(cpu.mean_ap - gpu.mean_ap) < 1e-6 and abs(cpu.mean_inp - gpu.mean_inp) < 1e-6, options
        assert (cpu.num_matches == gpu.num_matches).all()
    cpu, gpu = (svllreid.verify_features(*data, device=device) for device in ("cpu", "cuda"))
    assert abs(cpu.auc - gpu.auc) < 1e-6 and abs(cpu.at(1e-2).threshold - gpu.at(1e-2).threshold) < 1e-4
    assert (cpu.num_genuine, cpu.num_impostor) == (gpu.num_genuine, gpu.num_impostor)
    distances = [svllreid.rerank(*distinct, k1=10, k2=4, device=device) for device in ("cpu", "cuda")]
    assert abs(distances[0] - distances[1]).max() < 1e-4
    if cameras:
        pairs = [compare_cameras(*data, device=device) for device in ("cpu", "cuda")]
        assert np.nanmax(abs(pairs[0].mean_ap - pairs[1].mean_ap)) < 1e-6
        assert (pairs[0].num_queries == pairs[1].num_queries).all()


@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_compiled_training_learns_what_plain_training_learns(small_config, tmp_path):
    losses = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        keys = {"MODEL.COMPILE": compiled, "SOLVER.PRECISION": "32", "MODEL.USE_SSL_STAGE1": True}
        train(small_config({**keys, "OUTPUT_DIR": str(folder)}), Options(device="cuda"))
        with (folder / "scalars.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["name"] in ("stage1/loss", "stage2/loss")]
        losses.append([float(row["value"]) for row in rows])
        assert ("compiled in the first step" in (folder / "log.txt").read_text()) == compiled
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)

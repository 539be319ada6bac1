"""On a GPU: both stages in the published precision, and features as the CPU's."""

import pytest
import torch
from rich.console import Console

import svllreid
from svllreid import Encoder
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train
from svllreid.rendered import pretraining, recipe

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


def _stop():
    raise KeyboardInterrupt


def test_pretraining_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "TEST_SITES", 4)
    small = recipe.Recipe(sites=1, people=16, images=1, size=(32, 16), epochs=1, batch_size=8)
    scores = pretraining.pretrain(small, tmp_path, device="cuda", console=Console(quiet=True))
    assert 0 < scores["reid_mAP"] < 1 and (tmp_path / pretraining.WEIGHTS).is_file()

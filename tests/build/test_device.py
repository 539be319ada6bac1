"""Device, precision, re-ranking and sharding as a configuration says."""

from types import SimpleNamespace

import pytest
import torch

from svllreid import build
from svllreid.build import device as building
from svllreid.errors import ConfigError, DeviceError


@pytest.fixture(autouse=True)
def cpu_alone(monkeypatch):
    """A machine without accelerator, whose arithmetic is set back afterwards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_auto_takes_what_the_machine_has(small_config):
    assert build.build_fabric(small_config(), "auto").device == torch.device("cpu")


def test_a_device_that_the_machine_lacks(small_config, monkeypatch):
    with pytest.raises(DeviceError, match=r"--device mps: not on this machine, which has cpu; choose"):
        build.build_fabric(small_config(), "mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match=r"--device cuda:2: .* which has cuda:0, cuda:1, cuda, cpu; choose"):
        build.build_fabric(small_config(), "cuda:2")


@pytest.mark.parametrize(
    ("asked", "used", "products"),
    [
        ("auto", "32", "highest"),
        ("32", "32", "highest"),
        ("tf32", "32", "high"),
        ("16-mixed", "bf16-mixed", "highest"),
        ("bf16-mixed", "bf16-mixed", "highest"),
    ],
)
@pytest.mark.filterwarnings("ignore:You passed .*16-mixed:UserWarning")
def test_precision_on_a_cpu(small_config, asked, used, products):
    config = small_config({"SOLVER.PRECISION": asked})
    fabric = build.build_fabric(config, "cpu")
    assert build.precision_of(config, fabric) == used
    assert torch.get_float32_matmul_precision() == products


@pytest.mark.parametrize(("asked", "used"), [("tf32", "tf32"), ("32", "32"), ("auto", "32")])
def test_tf32_is_another_precision_on_cuda(small_config, asked, used):
    precision = SimpleNamespace(precision="32-true")
    fabric = SimpleNamespace(strategy=SimpleNamespace(precision=precision), device=torch.device("cuda"))
    assert build.precision_of(small_config({"SOLVER.PRECISION": asked}), fabric) == used


def test_re_ranking_takes_its_three_parameters(small_config):
    keys = {"TEST.RE_RANKING_K1": 9, "TEST.RE_RANKING_K2": 4, "TEST.RE_RANKING_LAMBDA": 0.7}
    assert build.build_rerank(small_config(keys)) is None
    options = build.build_rerank(small_config({**keys, "TEST.RE_RANKING": True}))
    assert (options.k1, options.k2, options.lambda_value) == (9, 4, 0.7)


def test_sharding_needs_several_processes_and_no_loss_scaling(small_config, monkeypatch):
    sharded = []
    monkeypatch.setattr(building, "shard", lambda *arguments: sharded.append(arguments))
    config = small_config({"SOLVER.SHARD": True})
    encoder = torch.nn.Linear(2, 2)
    encoder.blocks = ["first", "second", "last"]
    model = SimpleNamespace(image_encoder=encoder)
    fabric = build.build_fabric(config, "cpu")
    build.shard_encoder(config, model, fabric)
    monkeypatch.setattr(building, "num_processes", lambda: 2)
    build.shard_encoder(small_config(), model, fabric)
    assert not sharded
    build.shard_encoder(config, model, fabric)
    assert sharded == [(encoder, ["first", "second"], fabric.device)]
    half = SimpleNamespace(strategy=SimpleNamespace(precision=SimpleNamespace(precision="16-mixed")))
    with pytest.raises(ConfigError, match=r"SOLVER\.SHARD works in bf16-mixed"):
        build.shard_encoder(config, model, half)

"""Compiled stages compute what the others compute."""

import copy
import subprocess
import sys

import pytest
import torch

from svllreid import build_model
from svllreid.build import build_stage1, build_stage2
from svllreid.training import compiling
from svllreid.training.compiling import StaticPrompts, compile_stage1, compile_stage2, compiler_fault
from svllreid.types import Batch


def test_prompts_are_padded_to_one_size_and_cut_again(monkeypatch):
    options, sizes = [], []
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: options.append(kwargs) or function)

    def encode(prompts):
        sizes.append(len(prompts))
        return prompts.sum(dim=(1, 2))[:, None]

    static = StaticPrompts(encode, 6)
    for count in (6, 4, 1):
        prompts = torch.randn(count, 3, 2, requires_grad=True)
        found = static(prompts)
        assert torch.equal(found, encode(prompts))
        found.sum().backward()
        assert torch.equal(prompts.grad, torch.ones(count, 3, 2))
    assert sizes[::2] == [6, 6, 6] and options == [{"mode": "reduce-overhead", "dynamic": False}]


def stage1(config):
    model = build_model(config, num_classes=6, num_cameras=2).train()
    features = torch.randn(5, model.image_encoder.proj_dim, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 3, 5, 0])
    return build_stage1(config, model), lambda task: task(features, labels, torch.Generator().manual_seed(1))


def stage2(config):
    model = build_model(config, num_classes=4, num_cameras=2).train()
    images = torch.randn(3, 8, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    labels, camids = torch.arange(4).repeat_interleave(2), torch.arange(8) % 2
    batch = Batch(images[0], labels, camids, torch.full((8,), -1), *images[1:])
    return build_stage2(config, model), lambda task: task(batch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
@pytest.mark.parametrize(
    ("make", "compile_task"),
    [
        (stage1, lambda task: compile_stage1(task, 18)),
        (stage2, lambda task: compile_stage2(task, whole=True)),
        (stage2, lambda task: compile_stage2(task, whole=False)),
    ],
    ids=["stage 1", "stage 2", "encoder alone"],
)
def test_losses_and_gradients_are_the_same(small_config, make, compile_task):
    plain, step = make(small_config({"MODEL.NAME": "tiny"}))
    compiled = copy.deepcopy(plain)
    if hasattr(compiled, "encode"):
        compiled.encode = compiled.model.encode_prompts
    compile_task(compiled)
    results = []
    for task in (plain, compiled):
        result = step(task)
        result.loss.backward()
        results.append((result, {name: p.grad for name, p in task.named_parameters() if p.grad is not None}))
    (expected, gradients), (found, others) = results
    assert {name: term.item() for name, term in found.terms.items()} == pytest.approx(
        {name: term.item() for name, term in expected.terms.items()}, rel=1e-5
    )
    assert gradients.keys() == others.keys()
    whole = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6 * whole, name


@pytest.mark.slow
def test_without_a_c_compiler_the_fault_is_one_line(tmp_path):
    code = "from svllreid.training.compiling import compiler_fault as f; print(repr(f('cpu')))"
    environment = {
        "CXX": "/nowhere/c++",
        "PATH": "/nowhere",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 20 and "\\n" not in done.stdout


def test_a_compiler_that_fails_is_a_fault_and_not_an_error(monkeypatch):
    def failing(function, **options):
        raise RuntimeError("no Triton\nanywhere")

    monkeypatch.setattr(torch, "compile", failing)
    compiling.compiler_fault.cache_clear()
    assert compiler_fault("cpu") == "RuntimeError: no Triton anywhere"
    monkeypatch.setattr(torch, "compile", lambda function: function)
    compiling.compiler_fault.cache_clear()
    assert compiler_fault("cpu") == ""
    compiling.compiler_fault.cache_clear()

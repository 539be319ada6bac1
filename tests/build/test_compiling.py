"""When a stage is compiled, and how."""

import types

import pytest
import torch

from svllreid import build_model
from svllreid.build import build_stage1, build_stage2, compile_task
from svllreid.build import compiling as module


@pytest.fixture
def calls(monkeypatch):
    """What would be compiled; the compiler works."""
    made = []
    monkeypatch.setattr(module, "compiler_fault", lambda kind: "")
    monkeypatch.setattr(module, "compile_stage1", lambda task, rows: made.append(("stage 1", rows)))
    monkeypatch.setattr(module, "compile_stage2", lambda task, whole: made.append(("stage 2", whole)))
    return made


def fabric(kind):
    return types.SimpleNamespace(device=torch.device(kind))


def tasks(config):
    model = build_model(config, num_classes=4, num_cameras=2)
    return build_stage1(config, model), build_stage2(config, model)


@pytest.mark.parametrize(
    ("setting", "kind", "steps", "expected"),
    [
        ("auto", "cuda", 2000, True),
        ("auto", "cuda", 1999, False),
        ("auto", "cpu", 10**6, False),
        ("false", "cuda", 10**6, False),
        ("true", "cpu", 1, True),
    ],
)
def test_auto_compiles_long_stages_on_cuda(small_config, calls, setting, kind, steps, expected):
    config = small_config({"MODEL.COMPILE": setting, "SOLVER.STAGE1.IMS_PER_BATCH": 3})
    notes = [compile_task(config, task, fabric(kind), steps) for task in tasks(config)]
    assert calls == ([("stage 1", 9), ("stage 2", True)] if expected else [])
    assert all(("compiled in the first step" in note) == expected for note in notes)


def test_no_more_prompts_than_identities(small_config, calls):
    config = small_config({"MODEL.COMPILE": True, "MODEL.USE_SSL_STAGE1": False, "SOLVER.STAGE1.IMS_PER_BATCH": 64})
    compile_task(config, tasks(config)[0], fabric("cpu"), 1)
    assert calls == [("stage 1", 4)]


@pytest.mark.parametrize("key", [{"MODEL.GRAD_CHECKPOINTING": True}, {"SOLVER.STAGE2.MICRO_BATCH": 8}])
def test_recomputed_activations_compile_the_encoder_alone(small_config, calls, key):
    config = small_config({"MODEL.COMPILE": True, **key})
    compile_task(config, tasks(config)[1], fabric("cpu"), 1)
    assert calls == [("stage 2", False)]


def test_several_processes_compile_the_encoder_alone_and_sharded_weights_nothing(small_config, calls, monkeypatch):
    monkeypatch.setattr(module, "num_processes", lambda: 2)
    config = small_config({"SOLVER.STAGE1.IMS_PER_BATCH": 5})
    for task in tasks(config):
        compile_task(config, task, fabric("cuda"), 2000)
    assert calls == [("stage 1", 9), ("stage 2", False)]
    calls.clear()
    assert compile_task(small_config({"SOLVER.SHARD": True}), tasks(config)[1], fabric("cuda"), 2000) == ""
    assert calls == []


def test_a_compiler_that_does_not_work_is_said_in_one_line(small_config, calls, monkeypatch):
    monkeypatch.setattr(module, "compiler_fault", lambda kind: f"no Triton for {kind}")
    config = small_config()
    note = compile_task(config, tasks(config)[1], fabric("cuda"), 2000)
    assert note == "not compiled: torch.compile does not work here (no Triton for cuda)" and calls == []

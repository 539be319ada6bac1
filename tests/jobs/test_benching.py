"""What `svllreid bench` measures and suggests."""

import pytest
import torch

from svllreid.cli.bench import bench
from svllreid.errors import DeviceError
from svllreid.jobs import benching
from svllreid.jobs.benching import Measured, run_bench


def test_every_kind_of_work_is_measured(small_config, monkeypatch):
    readings = iter(range(10**9, 2 * 10**9, 10**8))  # this process's own peak has long been passed
    monkeypatch.setattr(benching, "_used", lambda fabric: next(readings))
    found = run_bench(small_config(), "cpu")
    assert [(row.work, row.batch_size) for row in found.measured] == [
        (work, size) for work in ("stage 1", "test", "stage 2") for size in (4, 8)
    ]
    assert all(row.images_per_second > 0 and row.memory > 10**8 for row in found.measured)
    slope = 10**8 / 4
    assert found.suggested == int(4 + (0.8 * found.memory - 14 * 10**8) / slope) // 4 * 4


def test_the_suggestion_fills_four_fifths_of_the_memory():
    measured = [Measured("stage 2", 8, 1.0, 2 * 10**9), Measured("stage 2", 16, 1.0, 3 * 10**9)]
    assert benching._suggest(measured, 10 * 10**9, 4) == 56  # 8 + (8 - 2) / (1 / 8)


def test_without_measured_memory_nothing_is_suggested(monkeypatch, capsys):
    measured = [Measured("stage 2", size, 1.0, None) for size in (8, 16)]
    assert benching._suggest(measured, 10**10, 4) is None
    assert benching._suggest([Measured("stage 2", 8, 1.0, 1), Measured("stage 2", 16, 1.0, 2)], None, 4) is None
    monkeypatch.setattr(benching, "run_bench", lambda *_: benching.Bench(measured, 10**10, None))
    bench()
    assert "  not known │" in (out := capsys.readouterr().out) and "no batch size is suggested" in out


def test_a_batch_that_does_not_fit_is_told(small_config, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(benching, "test_step", lambda *_: full)
    with pytest.raises(DeviceError, match="test at batch 4 does not fit"):
        run_bench(small_config(), "cpu")

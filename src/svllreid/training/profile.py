"""A trace of a few steps, for chrome://tracing or Perfetto."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from svllreid.files import atomic_write

logger = logging.getLogger(__name__)

WAIT, WARMUP, ACTIVE = 2, 1, 3


@contextmanager
def trace(file: Path) -> Iterator[profile]:
    """A profiler to be told of each step; steps 4 to 6 are written to `file`."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()

    def write(found: profile) -> None:
        with atomic_write(file) as temporary:
            found.export_chrome_trace(str(temporary))
        logger.info("trace of steps %d to %d: %s", WAIT + WARMUP + 1, WAIT + WARMUP + ACTIVE, file)

    steps = schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1)
    with profile(activities=activities, schedule=steps, on_trace_ready=write) as profiler:
        yield profiler
    if not file.is_file():
        logger.info("no trace in %s: that takes %d steps", file, WAIT + WARMUP + ACTIVE)

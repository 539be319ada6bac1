"""A trace of where the time of a few steps goes, for chrome://tracing or Perfetto."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from svllreid.files import atomic_write
from svllreid.training.hooks import Hook

logger = logging.getLogger(__name__)

WAIT, WARMUP, ACTIVE = 2, 1, 3


class Profiling(Hook):
    """Reports each step to a profiler.

    Args:
        profiler: a profiler that has been started.
    """

    def __init__(self, profiler: profile) -> None:
        self.profiler = profiler

    def after_step(self, epoch: int, step: int) -> None:
        """Report the step."""
        self.profiler.step()


@contextmanager
def trace(file: Path) -> Iterator[Profiling]:
    """A context with a hook for a stage's plan, which writes a trace of the stage's steps 4 to 6 to a JSON file.

    Args:
        file: the JSON file. A stage of fewer than 6 steps leaves none, which the log says.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()

    def write(recorded: profile) -> None:
        with atomic_write(file) as temporary:
            recorded.export_chrome_trace(str(temporary))
        logger.info("trace of steps %d to %d: %s", WAIT + WARMUP + 1, WAIT + WARMUP + ACTIVE, file)

    steps = schedule(wait=WAIT, warmup=WARMUP, active=ACTIVE, repeat=1)
    with profile(activities=activities, schedule=steps, on_trace_ready=write) as profiler:
        yield Profiling(profiler)
    if not file.is_file():
        logger.info("no trace in %s: that takes %d steps", file, WAIT + WARMUP + ACTIVE)

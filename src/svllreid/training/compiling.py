"""Compiling what a stage computes with torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from svllreid.training.stage1 import Stage1Task
from svllreid.training.stage2 import Stage2Task

MIN_STEPS = 2000
"""Steps of a stage from which compiling it takes less time than it saves (measured on an H200, see
docs/performance.md)."""


@cache
def compiler_fault(kind: str) -> str:
    """Why torch.compile does not work on a kind of device, in one line; empty where it works.

    Found out by compiling one line with its gradient, which takes seconds.

    Args:
        kind: `cuda`, `cpu` or another type of device.
    """
    values = torch.ones(8, device=kind, requires_grad=True)
    try:
        torch.compile(_probe)(values).sum().backward()
    except Exception as error:  # Triton, a C compiler or the device's libraries may be missing; each fails differently
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def _probe(values: Tensor) -> Tensor:
    return (values * 2).sin()


class StaticPrompts:
    """Encodes prompts in batches of one size, so that one program and, on a GPU, one CUDA graph serve every step.

    How many distinct identities a batch of stage 1 has differs from step to step; the rows that are missing are filled
    with zeros, and their features are left out. No row depends on another one.

    Args:
        encode: prompts (n, 77, T) to text features (n, E).
        rows: the size; no batch has more prompts.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], rows: int) -> None:
        self.encode = torch.compile(encode, mode="reduce-overhead", dynamic=False)
        self.rows = rows

    def __call__(self, prompts: Tensor) -> Tensor:
        """Text features (n, E); they are overwritten by the next call."""
        torch.compiler.cudagraph_mark_step_begin()
        padded = F.pad(prompts, (0, 0, 0, 0, 0, self.rows - len(prompts)))  # (rows, 77, T)
        return self.encode(padded)[: len(prompts)]


def compile_stage1(task: Stage1Task, rows: int) -> None:
    """Compile the text encoder of stage 1.

    Args:
        task: changed in place.
        rows: most prompts of a step, augmented copies counted.
    """
    task.encode = StaticPrompts(task.model.encode_prompts, rows)


def compile_stage2(task: Stage2Task, *, whole: bool) -> None:
    """Compile stage 2.

    Args:
        task: changed in place.
        whole: network and losses as one program; otherwise the image encoder alone, which is what several processes
            and recomputed activations need.
    """
    if whole:
        task.compile(dynamic=False)
    else:
        task.model.image_encoder.compile()

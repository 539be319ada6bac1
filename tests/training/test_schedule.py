"""Learning rates: values by hand, and against torch's schedulers where those compute the same."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from svllreid.training.schedule import cosine_lr, step_lr

COSINE = {"base_lr": 3.5e-4, "max_epochs": 120, "lr_min": 1e-6, "warmup_epochs": 5, "warmup_lr_init": 1e-5}
STEPS = {"base_lr": 5e-6, "steps": [30, 50], "gamma": 0.1, "warmup_factor": 0.1, "warmup_epochs": 10}


def torchs(make, base_lr, epochs):
    """What one of torch's schedulers gives in epochs 0, 1, ..."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=base_lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_by_hand():
    rates = {epoch: cosine_lr(epoch, **COSINE) for epoch in (1, 4, 5, 60, 120)}
    assert rates[1] == pytest.approx(1e-5 + 3.4e-4 / 5)
    assert rates[4] == pytest.approx(1e-5 + 3.4e-4 * 4 / 5)
    assert rates[5] == pytest.approx(1e-6 + 3.49e-4 / 2 * (1 + math.cos(math.pi / 24)))
    assert rates[60] == pytest.approx(1e-6 + 3.49e-4 / 2)
    assert rates[120] == pytest.approx(1e-6)


def test_cosine_without_warm_up_is_torchs():
    settings = {**COSINE, "warmup_epochs": 0}
    theirs = torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, 120, eta_min=1e-6), 3.5e-4, 121)
    assert [cosine_lr(epoch, **settings) for epoch in range(121)] == pytest.approx(theirs)


def test_steps_by_hand():
    rates = {epoch: step_lr(epoch, **STEPS) for epoch in (1, 9, 10, 29, 30, 49, 50, 60)}
    assert rates == pytest.approx({1: 0.95e-6, 9: 4.55e-6, 10: 5e-6, 29: 5e-6, 30: 5e-7, 49: 5e-7, 50: 5e-8, 60: 5e-8})


@pytest.mark.parametrize(
    ("method", "warm_up"),
    [
        ("linear", lambda o: lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=10)),
        ("constant", lambda o: lr_scheduler.ConstantLR(o, factor=0.1, total_iters=10)),
    ],
)
@pytest.mark.parametrize("steps", [[30, 50], [50, 30], [5, 7]])
def test_steps_with_warm_up_are_torchs(method, warm_up, steps):
    """Also where a step falls into the warm-up, and where the steps are not in order."""

    def make(optimizer):
        return lr_scheduler.ChainedScheduler(
            [warm_up(optimizer), lr_scheduler.MultiStepLR(optimizer, sorted(steps), gamma=0.1)]
        )

    settings = {**STEPS, "steps": steps, "warmup_method": method}
    assert [step_lr(epoch, **settings) for epoch in range(60)] == pytest.approx(torchs(make, 5e-6, 60))

"""One of several processes of test_processes.py: a step of each stage on its share, gradients written to a file."""

import os
import sys

import torch
from torch import distributed

from svllreid import build_model, load_config
from svllreid.build import build_stage1, build_stage2
from svllreid.losses.simclr import simclr_loss
from svllreid.runtime.gather import gather_rows
from svllreid.runtime.processes import average_gradients
from svllreid.types import Batch


def settings(**keys):
    return load_config(
        overrides={
            "MODEL.NAME": "tiny",
            "MODEL.PRETRAINED": "random",  # steeper weights would make rounding show
            "MODEL.SSL_HIDDEN_DIM": 32,
            "MODEL.SSL_OUT_DIM": 16,
            "MODEL.USE_SSL_STAGE1": True,
            "MODEL.USE_SSL": True,
            "INPUT.SIZE_TRAIN": [32, 16],
            "INPUT.SIZE_TEST": [32, 16],
            **keys,
        }
    )


def batch_of(rank):
    """The share of one process: four identities of its own, twice each."""
    images = torch.randn(3, 8, 3, 32, 16, generator=torch.Generator().manual_seed(rank))
    labels = torch.arange(4).repeat_interleave(2) + 4 * rank
    unknown = torch.full((8,), -1)
    return Batch(images[0], labels, unknown, unknown, images[1], images[2])


STAGE1_LABELS = [torch.tensor([0, 1, 2, 0]), torch.tensor([3, 4, 5, 6, 7, 3])]
ALONE = [torch.tensor([0, 0]), torch.tensor([3, 4])]


def stage1_features(rank):
    return torch.randn(len(STAGE1_LABELS[rank]), 128, generator=torch.Generator().manual_seed(10 + rank))


def gradients(task):
    return {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}


def run(rank, world, port, out):
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    found = {}
    config = settings()
    model = build_model(config, num_classes=8).train()
    task = build_stage2(config, model)
    task(batch_of(rank)).loss.backward()
    average_gradients(list(task.trained.values()))
    found["stage2"] = gradients(task)
    model = build_model(config, num_classes=8).train()
    task = build_stage1(config, model)
    task(stage1_features(rank), STAGE1_LABELS[rank], torch.Generator().manual_seed(rank)).loss.backward()
    average_gradients(list(task.trained.values()))
    found["stage1"] = gradients(task)
    task.zero_grad()
    task(stage1_features(rank)[:2], ALONE[rank], torch.Generator().manual_seed(rank)).loss.backward()
    average_gradients(list(task.trained.values()))
    found["alone"] = gradients(task)
    rows = torch.arange(rank + 1.0, requires_grad=True)[:, None] + 10 * rank
    everyone, first = gather_rows(rows)
    found["rows"], found["first"] = everyone.detach(), first
    shared = simclr_loss(torch.eye(3)[: 2 + rank], torch.eye(3)[: 2 + rank], identities=torch.arange(2 + rank))
    found["shared"] = shared
    torch.save(found, out)
    distributed.destroy_process_group()


if __name__ == "__main__":
    port, *files = sys.argv[1:]
    second = os.fork()  # only now, so that torch is imported once
    rank = 0 if second else 1
    run(rank, 2, int(port), files[rank])
    if second:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))

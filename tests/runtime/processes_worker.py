"""A process that test_processes.py starts: a step of each stage on its part of a batch, gradients to a file."""

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


def batch_of(process_rank):
    """The share of one process: four identities of its own, twice each."""
    images = torch.randn(3, 8, 3, 32, 16, generator=torch.Generator().manual_seed(process_rank))
    labels = torch.arange(4).repeat_interleave(2) + 4 * process_rank
    unknown = torch.full((8,), -1)
    return Batch(images[0], labels, unknown, unknown, images[1], images[2])


STAGE1_LABELS = [torch.tensor([0, 1, 2, 0]), torch.tensor([3, 4, 5, 6, 7, 3])]
ALONE = [torch.tensor([0, 0]), torch.tensor([3, 4])]


def stage1_features(process_rank):
    generator = torch.Generator().manual_seed(10 + process_rank)
    return torch.randn(len(STAGE1_LABELS[process_rank]), 128, generator=generator)


def gradients(task):
    return {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}


def run(process_rank, world, port, out):
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=process_rank, world_size=world)
    found = {}
    config = settings()
    model = build_model(config, num_classes=8).train()
    task = build_stage2(config, model)
    task(batch_of(process_rank)).loss.backward()
    average_gradients(list(task.trained.values()))
    found["stage2"] = gradients(task)
    model = build_model(config, num_classes=8).train()
    task = build_stage1(config, model)
    features, labels = stage1_features(process_rank), STAGE1_LABELS[process_rank]
    task(features, labels, torch.Generator().manual_seed(process_rank)).loss.backward()
    average_gradients(list(task.trained.values()))
    found["stage1"] = gradients(task)
    task.zero_grad()
    task(features[:2], ALONE[process_rank], torch.Generator().manual_seed(process_rank)).loss.backward()
    average_gradients(list(task.trained.values()))
    found["alone"] = gradients(task)
    rows = torch.arange(process_rank + 1.0, requires_grad=True)[:, None] + 10 * process_rank
    everyone, first = gather_rows(rows)
    found["rows"], found["first"] = everyone.detach(), first
    count = 2 + process_rank
    shared = simclr_loss(torch.eye(3)[:count], torch.eye(3)[:count], identities=torch.arange(count))
    found["shared"] = shared
    torch.save(found, out)
    distributed.destroy_process_group()


if __name__ == "__main__":
    port, *files = sys.argv[1:]
    second = os.fork()  # only now, so that torch is imported once
    process_rank = 0 if second else 1
    run(process_rank, 2, int(port), files[process_rank])
    if second:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))

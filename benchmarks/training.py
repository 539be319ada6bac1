"""Speed of a training step against a plain implementation of the same maths, ratios taken within one run.

    python benchmarks/training.py [--case stage1|stage2|stage2-bf16 ...] [--repeats 3] [--quick] [--device cpu]

Plain is written from the definition: every prompt with its 77 tokens, one prompt for each image of the batch, gradients
for the text encoder's weights, the plain prompts and each view of prompts or images in a pass of their own, attention
with its whole matrix, Adam parameter by parameter, float32. Weights are random: speed does not depend on them. Times
are medians of interleaved runs of a whole step (losses, gradients, optimiser); losses are compared on the same batch.

    stage1       text tower of ViT-B/16, batch 32, labels drawn from 751 identities; float32
    stage2       ViT-B/16, 256 x 128, stride 12, batch 8 with two augmented copies, side information; float32
    stage2-bf16  ours in bfloat16 autocast against plain in float32
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from svllreid import build, load_config
from svllreid.losses.identity import identity_loss
from svllreid.losses.simclr import simclr_loss
from svllreid.losses.supcon import supcon_loss
from svllreid.losses.triplet import triplet_loss
from svllreid.models.reid import SVLLReID
from svllreid.training.stage1 import Stage1Task
from svllreid.training.stage2 import Stage2Task
from svllreid.types import Batch

IDENTITIES, CAMERAS = 751, 6
Step = Callable[[], dict[str, float]]


def settings(quick: bool) -> Any:
    """SVLL-ReID on ViT-B/16 as published; `quick` takes the tiny backbone and small images."""
    small = {"MODEL.NAME": "tiny", "INPUT.SIZE_TRAIN": [64, 32], "INPUT.SIZE_TEST": [64, 32]} if quick else {}
    return load_config("person/vit_svllreid.yml", {"MODEL.PRETRAINED": "random", **small})


def model_of(config: Any, device: torch.device) -> SVLLReID:
    """The network with the classes and cameras of Market-1501; the same weights each time."""
    return build.build_model(config, num_classes=IDENTITIES, num_cameras=CAMERAS).to(device).train()


def stepper(loss_of: Callable[[], tuple[Tensor, dict[str, Tensor]]], optimizer: torch.optim.Optimizer) -> Step:
    """A whole step: losses, gradients, optimiser; returns the losses."""

    def step() -> dict[str, float]:
        optimizer.zero_grad(set_to_none=True)
        loss, terms = loss_of()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}

    return step


def plain_adam(parameters: Any, lr: float) -> torch.optim.Optimizer:
    """Adam, parameter by parameter."""
    return torch.optim.Adam(parameters, lr=lr, foreach=False, fused=False)


class Stage1:
    """Both versions of stage 1's step on the same features and labels."""

    def __init__(self, config: Any, device: torch.device, batch: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.config, self.device = config, device
        self.labels = torch.randint(IDENTITIES, (batch,), generator=draw).to(device)
        model = model_of(config, device)
        self.features = torch.randn(batch, model.image_encoder.proj_dim, generator=draw).to(device)
        self.images = batch

    def ours(self, _: str) -> Step:
        task: Stage1Task = build.build_stage1(self.config, model_of(self.config, self.device))

        def loss_of() -> tuple[Tensor, dict[str, Tensor]]:
            result = task(self.features, self.labels, torch.Generator(self.device).manual_seed(1))
            return result.loss, result.terms

        return stepper(loss_of, build.build_optimizer(self.config, task))

    def plain(self) -> Step:
        model = model_of(self.config, self.device)
        task = build.build_stage1(self.config, model)
        for parameter in model.text_encoder.parameters():
            parameter.requires_grad_(True)
        identities, column = self.labels.unique(return_inverse=True)
        first = torch.stack([(column == row).nonzero()[0, 0] for row in range(len(identities))])

        def encode(prompts: Tensor) -> Tensor:
            encoder = model.text_encoder
            x = prompts + encoder.positional_embedding
            mask = torch.full((77, 77), float("-inf"), device=x.device).triu(1)
            for block in encoder.transformer.resblocks:
                x = block(x, attn_mask=mask)
            return encoder.ln_final(x)[:, model.prompt_learner.length - 1] @ encoder.text_projection

        def loss_of() -> tuple[Tensor, dict[str, Tensor]]:
            generator = torch.Generator(self.device).manual_seed(1)
            with sdpa_kernel(SDPBackend.MATH):
                prompts = model.prompt_learner(self.labels)  # (B, 77, T)
                unique = model.prompt_learner(identities)
                augmented = [task.augment(unique, generator)[column] for _ in range(2)]
                text, *encoded = (encode(part) for part in (prompts, *augmented))
            terms = {
                "loss_i2t": supcon_loss(self.features, text, self.labels, self.labels),
                "loss_t2i": supcon_loss(text, self.features, self.labels, self.labels),
                "loss_ssl": simclr_loss(*(model.text_mlp(view[first]) for view in encoded)),
            }
            return terms["loss_i2t"] + terms["loss_t2i"] + task.ssl_weight * terms["loss_ssl"], terms

        stage = self.config.solver.stage1
        return stepper(loss_of, plain_adam(model.prompt_learner.parameters(), stage.base_lr))


class Stage2:
    """Both versions of stage 2's step on the same images."""

    def __init__(self, config: Any, device: torch.device, batch: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.config, self.device, self.images = config, device, batch
        images = torch.randn(3, batch, 3, *config.input.size_train, generator=draw)
        labels = torch.arange(batch // 4).repeat_interleave(4)
        camids = torch.randint(CAMERAS, (batch,), generator=draw)
        self.batch = Batch(images[0], labels, camids, torch.full((batch,), -1), images[1], images[2]).to(device)

    def ours(self, precision: str) -> Step:
        task: Stage2Task = build.build_stage2(self.config, model_of(self.config, self.device))
        half = torch.autocast(self.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

        def loss_of() -> tuple[Tensor, dict[str, Tensor]]:
            with half:
                result = task(self.batch)
            return result.loss, result.terms

        return stepper(loss_of, build.build_optimizer(self.config, task))

    def plain(self) -> Step:
        model = model_of(self.config, self.device)
        task, batch = build.build_stage2(self.config, model), self.batch

        def loss_of() -> tuple[Tensor, dict[str, Tensor]]:
            with sdpa_kernel(SDPBackend.MATH):
                features = model.encode_image(batch.images, batch.camids, batch.viewids)
                finals = [model.encode_image(copy).final for copy in (batch.augmented1, batch.augmented2)]
            scores, weights = model.classify(features), task.weights
            terms = {
                "loss_id": sum(identity_loss(score, batch.labels, task.smooth) for score in scores),
                "loss_triplet": sum(triplet_loss(feature, batch.labels, task.margin) for feature in features),
                "loss_i2t": identity_loss(features.proj @ task.text_features.T, batch.labels, task.smooth),
                "loss_ssl": simclr_loss(*(model.image_mlp(final) for final in finals)),
            }
            factors = (weights.identity, weights.triplet, weights.i2t, weights.ssl)
            return sum(factor * term for factor, term in zip(factors, terms.values(), strict=True)), terms

        stage = self.config.solver.stage2
        return stepper(loss_of, plain_adam([p for p in task.trained.values() if p.requires_grad], stage.base_lr))


CASES: dict[str, tuple[Any, str, int]] = {
    "stage1": (Stage1, "32", 32),
    "stage2": (Stage2, "32", 8),
    "stage2-bf16": (Stage2, "bf16", 8),
}


def run(case: str, device: torch.device, repeats: int, quick: bool) -> None:
    """One line of the table; the losses are those of the first step, before any weight differs."""
    kind, precision, batch = CASES[case]
    setup = kind(settings(quick), device, batch)
    steps = {"plain": setup.plain(), "ours": setup.ours(precision)}
    first = {name: step() for name, step in steps.items()}
    gap = max(abs(first["ours"][name] / first["plain"][name] - 1) for name in first["plain"])
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    plain, ours = (statistics.median(times[name]) for name in ("plain", "ours"))
    cells = (case, f"{plain:.2f}", f"{ours:.2f}", f"{plain / ours:.2f}x", f"{batch / ours:.1f}", f"{gap:.1e}")
    print("".join(f"{cell:>16}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the tiny backbone on small images")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    titles = ("case", "plain s", "ours s", "ratio", "images/s", "loss differs")
    print("".join(f"{title:>16}" for title in titles))
    for case in args.case or CASES:
        run(case, torch.device(args.device), args.repeats, args.quick)


if __name__ == "__main__":
    main()

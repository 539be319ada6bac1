"""How long saving the state keeps training waiting: written at once, or copied and written in the background.

    python benchmarks/saving.py [--epochs 4] [--steps 40] [--folder DIR] [--quick] [--device cpu]

The state is that of stage 2 of ViT-B/16: weights and Adam's two moments. A step is a forward and backward pass of the
encoder's first block for one image (211 tokens), so that training and writing share the machine as in a run. Both ways
are measured in turn, as many epochs each. `waits` is the median time from the end of an epoch's last step to the start
of the next epoch, `step` the median of steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from svllreid import build, load_config
from svllreid.runtime.background import BackgroundWriter
from svllreid.training.state import StateFile, TrainingProgress, snapshot

IDENTITIES, CAMERAS = 751, 6
TOKENS = 211


class Training:
    """Weights and moments as after a step of stage 2, and steps that take a while."""

    def __init__(self, quick: bool, device: torch.device) -> None:
        small = {"MODEL.NAME": "tiny", "INPUT.SIZE_TRAIN": [64, 32], "INPUT.SIZE_TEST": [64, 32]} if quick else {}
        config = load_config("person/vit_svllreid.yml", {"MODEL.PRETRAINED": "random", **small})
        model = build.build_model(config, num_classes=IDENTITIES, num_cameras=CAMERAS).to(device)
        task = build.build_stage2(config, model)
        self.optimizer, self.model, self.device = build.build_optimizer(config, task), model, device
        for parameter in (p for group in self.optimizer.param_groups for p in group["params"]):
            parameter.grad = torch.randn_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.block: nn.Module = model.image_encoder.transformer.resblocks[0]
        width = next(p for p in self.block.parameters() if p.dim() == 1).numel()
        self.tokens = torch.randn(1, TOKENS, width, device=device)

    def step(self) -> None:
        self.block(self.tokens).sum().backward()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def parts(self) -> dict[str, object]:
        text = ("prompt_learner.", "text_encoder.")
        kept = {name: value for name, value in self.model.state_dict().items() if not name.startswith(text)}
        return {"model": kept, "optimizer": self.optimizer.state_dict()}


def run(training: Training, folder: Path, epochs: int, steps: int, background: bool) -> tuple[float, float, float]:
    """Median seconds that an epoch's end waits, median seconds of a step, and seconds in all."""
    file, waits, times = StateFile(folder / "stage2.pt", list(range(IDENTITIES))), [], []
    begin = time.perf_counter()
    with BackgroundWriter() as writer:
        for epoch in range(1, epochs + 1):
            for _ in range(steps):
                start = time.perf_counter()
                training.step()
                times.append(time.perf_counter() - start)
            start, progress = time.perf_counter(), TrainingProgress(epoch=epoch)
            if background:
                writer.wait()
                writer.submit(file.save, progress, snapshot(training.parts()))
            else:
                file.save(progress, training.parts())
            waits.append(time.perf_counter() - start)
    return statistics.median(waits), statistics.median(times), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=2, help="how often both ways are measured in turn")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: the system's temporary one")
    parser.add_argument("--quick", action="store_true", help="the tiny backbone")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    training = Training(args.quick, torch.device(args.device))
    training.step()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        StateFile(Path(folder) / "stage2.pt", []).save(TrainingProgress(), training.parts())
        size = (Path(folder) / "stage2.pt").stat().st_size
        print(f"state of {size / 1e9:.2f} GB, {args.epochs} epochs of {args.steps} steps")
        print("".join(f"{title:>16}" for title in ("written", "waits, s", "step, ms", "in all, s")))
        for _ in range(args.rounds):
            for name, background in (("at once", False), ("in background", True)):
                waits, step, total = run(training, Path(folder), args.epochs, args.steps, background)
                cells = (name, f"{waits:.3f}", f"{1e3 * step:.1f}", f"{total:.1f}")
                print("".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()

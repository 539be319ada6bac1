"""Pretraining the tiny CLIP on rendered people with generated descriptions; `svllreid pretrain` runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor

from svllreid import build
from svllreid.config import load_config
from svllreid.errors import CheckpointError, OutputError
from svllreid.files import atomic_write, remove_leftovers, write_json
from svllreid.models.clip import load_clip
from svllreid.rendered.camera_jitter import CameraJitter
from svllreid.rendered.crowd import DRAWN_BY, Crowd, RenderedCrowd, render
from svllreid.rendered.description import caption, describe_person
from svllreid.rendered.pair import ImageTextPair
from svllreid.rendered.recipe import RECIPE_FILE, Recipe, check_same_recipe, read_record
from svllreid.rendered.scoring import CAPTIONS, MEAN, STD, embed_images, embed_texts, score
from svllreid.rendered.task import PretrainTask, make_pretrain_optimizer, warm_cosine_lr
from svllreid.runtime.background import BackgroundWriter
from svllreid.runtime.interrupt import StopSignals
from svllreid.runtime.progress import LiveReport, logging_to
from svllreid.runtime.writers import check_folder, open_writers
from svllreid.training.hooks import Hook
from svllreid.training.loop import run_stage
from svllreid.training.plan import StagePlan
from svllreid.training.state import TrainingProgress

logger = logging.getLogger(__name__)

WEIGHTS, CARD = "tiny_clip.safetensors", "tiny_clip.json"
_RUN_FILES = (WEIGHTS, CARD, RECIPE_FILE, "log.txt", "scalars.csv", "events.out.tfevents.*", "state/*")
WEAK = 0.3  # strength of the jitter at the start; it grows to 1 over the first half of the epochs
_BATCHES, _JITTER = 52, 53  # first word of each random stream


def pretrain(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "auto",
    workers: int = 1,
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Renders people, trains both towers from random weights, tests them, and writes the weights.

    After an interruption the same call continues where it stopped; a finished run is not repeated.

    Args:
        recipe: the settings.
        folder: receives `crowd` (the images, which later runs use again), `state`, tiny_clip.safetensors (weights in
            half precision and OpenAI's layout), tiny_clip.json (recipe and scores), log.txt and scalars.
        device: auto, cpu, cuda, cuda:1 or mps.
        workers: processes that render.
        fresh: start over; rendered images are kept.
        console: where progress is shown; None: standard error.
    Returns: the scores, see `scoring.score`.
    Raises: ReidError: anything that the user can fix.
    """
    console = console or Console(stderr=True)
    check_folder(folder)
    recipe.check()
    # Whatever can be refused is refused before a file is written or removed.
    run = PretrainRun(recipe, folder, device, workers)
    if not fresh:
        check_same_recipe(folder, recipe)
    try:
        for pattern in _RUN_FILES if fresh else ():
            for file in folder.glob(pattern):
                file.unlink()
        for place in (folder, folder / "state"):
            remove_leftovers(place)
    except OSError as error:
        raise OutputError(f"{folder} cannot be changed: {error.strerror or error}; name another folder") from None
    write_json(folder / RECIPE_FILE, asdict(recipe))
    writers = open_writers(folder, {}, asdict(recipe))
    with logging_to(folder / "log.txt", console), LiveReport(console, writers) as report, StopSignals():
        return run.run(report)


class PretrainRun(Hook):
    """One pretraining run in its folder.

    Args: as of `pretrain`.
    """

    report: LiveReport

    def __init__(self, recipe: Recipe, folder: Path, device: str, workers: int) -> None:
        self.recipe, self.folder, self.workers = recipe, folder, workers
        self.fabric = build.build_fabric(load_config(), device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = ImageTextPair(load_clip("tiny", "random"), recipe.size)

    def run(self, report: LiveReport) -> dict[str, Any]:
        """Renders, trains the epochs that are left, tests and writes; returns the scores.

        Args:
            report: shows progress and records scalars.
        """
        self.report = report
        card = self.folder / CARD
        if card.is_file() and (self.folder / WEIGHTS).is_file():
            logger.info("this run is complete; --fresh starts over. Its weights are %s", self.folder / WEIGHTS)
            scores = read_record(card).get("scores")
            if not isinstance(scores, dict):
                raise CheckpointError(f"{card} has no scores; remove it to test again, or start over with --fresh")
            return scores
        logger.info("%d people, %d images", len(self.recipe.crowd), len(self.recipe.crowd) * self.recipe.images)
        self.crowd, self.people = self.rendered(self.recipe.crowd), self.recipe.crowd.everybody()
        self.test = self.rendered(self.recipe.test_crowd)
        self.model.to(self.fabric.device)
        state = self.folder / "state" / "pretrain.pt"
        run_stage(self.fabric, self.plan(), state, self.report, BackgroundWriter())
        return self.write()

    def rendered(self, crowd: Crowd) -> RenderedCrowd:
        """The images of a crowd; those that the folder lacks are rendered."""
        height, width = crowd.size
        # Images drawn by other versions of the code would not fit today's descriptions.
        name = f"drawn{DRAWN_BY}_{crowd.seed}_{crowd.people}x{crowd.images}_{height}x{width}"
        with self.report.tracking("rendering sites") as progress:
            return render(crowd, self.folder / "crowd" / name, self.workers, progress)

    def plan(self) -> StagePlan:
        """What the epoch loop does for this run."""
        recipe, task = self.recipe, PretrainTask(self.model)
        return StagePlan(
            stage="pretraining",
            task=task,
            optimizer=make_pretrain_optimizer(self.model, recipe.lr, recipe.weight_decay),
            max_epochs=recipe.epochs,
            lr=lambda epoch: warm_cosine_lr(
                epoch, base_lr=recipe.lr, max_epochs=recipe.epochs, warmup_epochs=recipe.warmup
            ),
            batches=self.batches,
            images_of=lambda epoch, step: [f"person {index}" for index in self.order(epoch)[step - 1]],
            kept=lambda name: True,
            log_period=20,
            save_period=200,
            hooks=[self],
            pids=[],
            final=self.folder / WEIGHTS,
            advice="Lower the learning rate (--lr)",
            settings=(),
        )

    def order(self, epoch: int) -> np.ndarray:
        """The people of an epoch's batches, (steps, B); those left over after the last whole batch are not shown."""
        recipe = self.recipe
        order = np.random.default_rng([_BATCHES, recipe.seed, epoch]).permutation(len(recipe.crowd))
        return order[: len(order) // recipe.batch_size * recipe.batch_size].reshape(-1, recipe.batch_size)

    def batches(self, epoch: int, done: int) -> tuple[int, Iterable[Sequence[Tensor]]]:
        """How many steps an epoch has, and the images and token ids of those after the first `done`."""
        # Weak at first: with the full jitter from the start, the loss takes several epochs to begin to fall.
        strength = WEAK + (1 - WEAK) * min(1.0, 2 * epoch / self.recipe.epochs)
        order, jitter, draws = self.order(epoch), CameraJitter(MEAN, STD, strength=strength), torch.Generator()

        def steps() -> Iterable[Sequence[Tensor]]:
            for step in range(done, len(order)):
                rng = np.random.default_rng([CAPTIONS, self.recipe.seed, epoch, step])
                draws.manual_seed(
                    int(np.random.SeedSequence([_JITTER, self.recipe.seed, epoch, step]).generate_state(1)[0])
                )
                shots = rng.integers(self.recipe.images, size=self.recipe.batch_size)
                pixels = torch.from_numpy(self.crowd.images(order[step], shots))
                captions = open_clip.tokenize([caption(self.people[index], rng) for index in order[step].tolist()])
                yield jitter(pixels, draws).to(self.fabric.device), captions.to(self.fabric.device)

        return len(order), steps()

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Measures the model, records the scores and logs them."""
        scores = score(self.model, self.test)
        self.report.scalars("eval", {name: value for name, value in scores.items() if isinstance(value, float)}, epoch)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if isinstance(value, float))
        logger.info("epoch %d: %s", epoch, shown)

    def write(self) -> dict[str, Any]:
        """Writes the weights in half precision, and a JSON file with the recipe and the scores of these weights."""
        some = np.arange(min(1000, len(self.people)))
        pixels = torch.from_numpy(self.crowd.images(some, np.zeros_like(some)))
        texts = embed_texts(self.model, [describe_person(self.people[index]) for index in some.tolist()])
        self.model.balance(embed_images(self.model, pixels)[0], texts)
        state = {name: value.half().contiguous() for name, value in self.model.openai_state().items()}
        self.model.half().float()  # measured as they are written
        scores = score(self.model, self.test)
        card = {"quick_gelu": True, "recipe": asdict(self.recipe), "scores": scores}
        write_json(self.folder / CARD, card)
        with atomic_write(self.folder / WEIGHTS) as temporary:
            temporary.write_bytes(save(state))
        logger.info(
            "the weights are %s; use them with MODEL.NAME tiny MODEL.PRETRAINED %s", *[self.folder / WEIGHTS] * 2
        )
        return scores

"""Pretraining a small CLIP on rendered people with generated descriptions: the recipe of the file that ships."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
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
from svllreid.data.transforms import normalised, per_channel
from svllreid.errors import CheckpointError, ConfigError, OutputError
from svllreid.evaluation.ranking.measures import evaluate_features
from svllreid.files import atomic_write, remove_leftovers, write_json
from svllreid.models.clip import load_clip
from svllreid.rendered.alignment import probe, retrieval_rank1
from svllreid.rendered.camera_jitter import CameraJitter
from svllreid.rendered.crowd import DRAWN_BY, Crowd, RenderedCrowd, render
from svllreid.rendered.description import caption, describe
from svllreid.rendered.pair import ImageTextPair
from svllreid.rendered.probes import QUESTIONS
from svllreid.rendered.task import PretrainTask, make_pretrain_optimizer, warm_cosine_lr
from svllreid.runtime.interrupt import StopSignals
from svllreid.runtime.progress import LiveReport, logging_to
from svllreid.runtime.writers import check_folder, open_writers
from svllreid.training.loop import StagePlan, run_stage
from svllreid.training.state import TrainingProgress

logger = logging.getLogger(__name__)

MEAN = STD = (0.5, 0.5, 0.5)  # what the configurations of `tiny` normalise by
WEIGHTS, CARD, RECIPE = "tiny_clip.safetensors", "tiny_clip.json", "recipe.json"
_RUN_FILES = (WEIGHTS, CARD, RECIPE, "log.txt", "scalars.csv", "events.out.tfevents.*", "state/*")
WEAK = 0.3  # strength of the jitter at the start; it grows to 1 over the first half of the epochs
TEST_SEED, TEST_SITES, TEST_PEOPLE = 10**3, 20, 50  # of the crowd that nothing is trained on
_CAPTIONS, _BATCHES, _JITTER = 51, 52, 53  # first word of each random stream


@dataclass(frozen=True)
class Recipe:
    """How the file is made; the defaults made the one that ships.

    Args:
        seed: of people, weights and batches.
        sites, people, images: sites, people at each of them, and images of each person, see `Crowd`.
        size: height and width in pixels.
        epochs: passes over the people; each shows a random one of their images with a new wording.
        batch_size: people a step, whose captions the loss tells apart.
        lr, weight_decay: of AdamW; warmup: epochs of linear warm-up before the cosine.
    """

    seed: int = 0
    sites: int = 400
    people: int = 50
    images: int = 4
    size: tuple[int, int] = (96, 48)
    epochs: int = 18
    batch_size: int = 64
    lr: float = 6e-4
    weight_decay: float = 0.1
    warmup: int = 1

    @property
    def crowd(self) -> Crowd:
        """Who is rendered to train on."""
        return Crowd(self.seed, self.sites, self.people, self.images, self.size)

    @property
    def test_crowd(self) -> Crowd:
        """Who is rendered to test on, the same for every seed below a thousand."""
        return Crowd(TEST_SEED, TEST_SITES, TEST_PEOPLE, 2, self.size)


def pretrain(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "auto",
    workers: int = 1,
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Render people, train both towers from random weights, test, and write the weights.

    An interrupted call continues where it stopped; a finished one says so.

    Args:
        recipe: what is done.
        folder: gets `crowd` (images, used again), `state`, tiny_clip.safetensors (half precision, OpenAI's layout),
            tiny_clip.json (recipe and scores), log.txt and scalars.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: processes that render.
        fresh: train from the start again; rendered images stay.
    Returns: the scores.
    Raises: ReidError: anything the user can mend.
    """
    console = console or Console(stderr=True)
    check_folder(folder)
    if recipe.seed >= TEST_SEED:
        raise ConfigError(f"seed {recipe.seed}: the people of {TEST_SEED} are tested on; take a smaller one")
    if recipe.batch_size > len(recipe.crowd):
        raise ConfigError(
            f"a batch of {recipe.batch_size} is larger than the crowd of {len(recipe.crowd)} people: take a smaller "
            "--batch-size or more --sites"
        )
    # Whatever can be refused is refused before a file is written or removed.
    with LiveReport(console) as report:
        run = PretrainRun(recipe, folder, device, workers, report)
    if not fresh:
        _check_same_recipe(folder, recipe)
    try:
        for pattern in _RUN_FILES if fresh else ():
            for file in folder.glob(pattern):
                file.unlink()
        for place in (folder, folder / "state"):
            remove_leftovers(place)
    except OSError as error:
        raise OutputError(f"{folder} cannot be changed: {error.strerror or error}; name another folder") from None
    write_json(folder / RECIPE, asdict(recipe))
    writers = open_writers(folder, {}, asdict(recipe))
    with logging_to(folder / "log.txt", console), LiveReport(console, writers) as report, StopSignals():
        run.report = report
        return run.run()


def _check_same_recipe(folder: Path, recipe: Recipe) -> None:
    if not (folder / RECIPE).is_file():
        return
    before, now = _read(folder / RECIPE), json.loads(json.dumps(asdict(recipe)))
    changed = [
        f"{name}: {before.get(name)} before, {value} now" for name, value in now.items() if before.get(name) != value
    ]
    if changed:
        raise ConfigError(
            f"{folder} holds a run of another recipe ({'; '.join(changed)}); name another folder, or start over with "
            "--fresh"
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
        if isinstance(content, dict):
            return content
        reason = f"it holds a {type(content).__name__}"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise CheckpointError(f"{file} cannot be read ({reason}); remove it, or start over with --fresh")


class PretrainRun:
    """One pretraining run in its folder."""

    def __init__(self, recipe: Recipe, folder: Path, device: str, workers: int, report: LiveReport) -> None:
        self.recipe, self.folder, self.workers, self.report = recipe, folder, workers, report
        self.fabric = build.build_fabric(load_config(), device)
        self.tokenizer = open_clip.tokenize
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = ImageTextPair(load_clip("tiny", "random"), recipe.size)

    def run(self) -> dict[str, Any]:
        """Render, train what is left, test, write."""
        card = self.folder / CARD
        if card.is_file() and (self.folder / WEIGHTS).is_file():
            logger.info("this run is complete; --fresh starts over. Its weights are %s", self.folder / WEIGHTS)
            scores = _read(card).get("scores")
            if not isinstance(scores, dict):
                raise CheckpointError(f"{card} has no scores; remove it to test again, or start over with --fresh")
            return scores
        logger.info("%d people, %d images", len(self.recipe.crowd), len(self.recipe.crowd) * self.recipe.images)
        self.crowd, self.people = self.rendered(self.recipe.crowd), self.recipe.crowd.everybody()
        self.test = self.rendered(self.recipe.test_crowd)
        self.model.to(self.fabric.device)
        run_stage(self.fabric, self.plan(), self.folder / "state" / "pretrain.pt", self.report)
        return self.write()

    def rendered(self, crowd: Crowd) -> RenderedCrowd:
        """The images of a crowd, rendered where they are missing."""
        height, width = crowd.size
        # Images drawn by other versions of the code would not fit today's descriptions.
        name = f"drawn{DRAWN_BY}_{crowd.seed}_{crowd.people}x{crowd.images}_{height}x{width}"
        with self.report.tracking("rendering sites") as progress:
            return render(crowd, self.folder / "crowd" / name, self.workers, progress)

    def plan(self) -> StagePlan:
        """What an epoch is."""
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
            after_epoch=self.after_epoch,
            pids=[],
            final=self.folder / WEIGHTS,
            mend="Lower the learning rate (--lr)",
        )

    def order(self, epoch: int) -> np.ndarray:
        """(steps, B) people of an epoch's batches; those who fill no batch rest for the epoch."""
        recipe = self.recipe
        order = np.random.default_rng([_BATCHES, recipe.seed, epoch]).permutation(len(recipe.crowd))
        return order[: len(order) // recipe.batch_size * recipe.batch_size].reshape(-1, recipe.batch_size)

    def batches(self, epoch: int, done: int) -> tuple[int, Iterable[Sequence[Tensor]]]:
        """Images and token ids of an epoch's steps after the first `done`."""
        # Weak at first: under all of it from the start the towers take several epochs to find each other.
        strength = WEAK + (1 - WEAK) * min(1.0, 2 * epoch / self.recipe.epochs)
        order, jitter, draws = self.order(epoch), CameraJitter(MEAN, STD, strength=strength), torch.Generator()

        def steps() -> Iterable[Sequence[Tensor]]:
            for step in range(done, len(order)):
                rng = np.random.default_rng([_CAPTIONS, self.recipe.seed, epoch, step])
                draws.manual_seed(
                    int(np.random.SeedSequence([_JITTER, self.recipe.seed, epoch, step]).generate_state(1)[0])
                )
                shots = rng.integers(self.recipe.images, size=self.recipe.batch_size)
                pixels = torch.from_numpy(self.crowd.images(order[step], shots))
                captions = self.tokenizer([caption(self.people[index], rng) for index in order[step].tolist()])
                yield jitter(pixels, draws).to(self.fabric.device), captions.to(self.fabric.device)

        return len(order), steps()

    def after_epoch(self, epoch: int, progress: TrainingProgress) -> None:
        """Measure."""
        scores = self.scores()
        self.report.scalars("eval", {name: value for name, value in scores.items() if isinstance(value, float)}, epoch)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if isinstance(value, float))
        logger.info("epoch %d: %s", epoch, shown)

    @torch.inference_mode()
    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the test compares of (n, H, W, 3) uint8 images: (n, E) for texts, (n, W + E) for other images."""
        self.model.eval()
        mean, std = per_channel(MEAN), per_channel(STD)
        parts = []
        for part in images.split(256):
            pixels = normalised(part.movedim(3, 1), mean, std)
            parts.append(self.model.image_encoder(pixels.to(self.fabric.device)))
        proj, final = (torch.cat([getattr(part, name) for part in parts]).cpu().float() for name in ("proj", "final"))
        return proj, torch.nn.functional.normalize(torch.cat([final, proj], dim=1))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(n, E)."""
        return self.model.eval().encode_text(self.tokenizer(list(texts)).to(self.fabric.device)).cpu().float()

    def scores(self) -> dict[str, Any]:
        """How well images and texts of people go together that nothing was trained on; fractions."""
        crowd, people = self.recipe.test_crowd, self.recipe.test_crowd.everybody()
        numbers = np.arange(len(crowd))
        first, second = (torch.from_numpy(self.test.images(numbers, np.full(len(crowd), shot))) for shot in (0, 1))
        proj, q_feats = self.embed(first)
        _, g_feats = self.embed(second)
        rng = np.random.default_rng([_CAPTIONS, crowd.seed])
        wordings = self.embed_texts([caption(person, rng) for person in people])
        reid = evaluate_features(q_feats, g_feats, numbers, numbers)
        scores: dict[str, Any] = {
            "retrieval_full": retrieval_rank1(proj, self.embed_texts([describe(person) for person in people])),
            "retrieval_wordings": retrieval_rank1(proj, wordings),
            "reid_mAP": reid.mean_ap,
            "reid_rank1": float(reid.cmc[0]),
        }
        scores["probes"] = {}
        for question in QUESTIONS:
            labels = torch.tensor([question.label(person) for person in people])
            scores["probes"][question.name] = probe(proj, self.embed_texts(question.prompts), labels)._asdict()
        scores["probe_mean"] = float(np.mean([found["accuracy"] for found in scores["probes"].values()]))
        return scores

    def write(self) -> dict[str, Any]:
        """Write the weights in half precision, and beside them the recipe and what these weights score."""
        some = np.arange(min(1000, len(self.people)))
        pixels = torch.from_numpy(self.crowd.images(some, np.zeros_like(some)))
        texts = self.embed_texts([describe(self.people[index]) for index in some.tolist()])
        self.model.balance(self.embed(pixels)[0], texts)
        state = {name: value.half().contiguous() for name, value in self.model.openai_state().items()}
        self.model.half().float()  # measured as they are written
        scores = self.scores()
        card = {"quick_gelu": True, "recipe": asdict(self.recipe), "scores": scores}
        write_json(self.folder / CARD, card)
        with atomic_write(self.folder / WEIGHTS) as temporary:
            temporary.write_bytes(save(state))
        logger.info(
            "the weights are %s; use them with MODEL.NAME tiny MODEL.PRETRAINED %s", *[self.folder / WEIGHTS] * 2
        )
        return scores

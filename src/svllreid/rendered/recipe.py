"""How the tiny CLIP is pretrained: every number that decides its weights, and the file that records them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from svllreid.errors import CheckpointError, ConfigError
from svllreid.rendered.crowd import Crowd

RECIPE_FILE = "recipe.json"
TEST_SEED, TEST_SITES, TEST_PEOPLE = 10**3, 20, 50  # of the people who are tested on and never trained on


@dataclass(frozen=True)
class Recipe:
    """The settings of a pretraining run; the defaults made the weights that come with the package.

    Args:
        seed: of people, initial weights and batches; below 1,000, whose people are tested on.
        sites, people, images: number of sites, people at each site, and images of each person, see `Crowd`.
        size: height and width of the images in pixels.
        epochs: passes over the people; each shows one image of every person, drawn at random, with a new caption.
        batch_size: people in a batch; the loss tells their captions apart. At most as many as there are people.
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
        """The people to train on."""
        return Crowd(self.seed, self.sites, self.people, self.images, self.size)

    @property
    def test_crowd(self) -> Crowd:
        """The people to test on, the same for every seed."""
        return Crowd(TEST_SEED, TEST_SITES, TEST_PEOPLE, 2, self.size)

    def check(self) -> None:
        """Refuses settings that contradict each other.

        Raises: ConfigError: the test's people would be trained on, or a batch is larger than the crowd.
        """
        if self.seed >= TEST_SEED:
            raise ConfigError(f"seed {self.seed}: the people of {TEST_SEED} are tested on; take a smaller one")
        if self.batch_size > len(self.crowd):
            raise ConfigError(
                f"a batch of {self.batch_size} is larger than the crowd of {len(self.crowd)} people: take a smaller "
                "--batch-size or more --sites"
            )


def check_same_recipe(folder: Path, recipe: Recipe) -> None:
    """Refuses to continue a run under another recipe.

    Args:
        folder: the run's folder, which may hold no run yet.
        recipe: the recipe to continue under.
    Raises:
        ConfigError: the folder holds a run of another recipe.
        CheckpointError: its recipe cannot be read.
    """
    if not (folder / RECIPE_FILE).is_file():
        return
    before, now = read_record(folder / RECIPE_FILE), json.loads(json.dumps(asdict(recipe)))
    changed = [
        f"{name}: {before.get(name)} before, {value} now" for name, value in now.items() if before.get(name) != value
    ]
    if changed:
        raise ConfigError(
            f"{folder} holds a run of another recipe ({'; '.join(changed)}); name another folder, or start over with "
            "--fresh"
        )


def read_record(file: Path) -> dict[str, Any]:
    """The content of a JSON file that a run wrote.

    Raises: CheckpointError: it cannot be read, or holds something else than names and values.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        if isinstance(content, dict):
            return content
        reason = f"it holds a {type(content).__name__}"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise CheckpointError(f"{file} cannot be read ({reason}); remove it, or start over with --fresh")

"""The demonstration: render people, train both stages, and compare the result with raw pixels and no training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from svllreid import build
from svllreid.config import Config, load_config
from svllreid.data.images import open_image
from svllreid.errors import GalleryError, OutputError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import evaluate_protocol
from svllreid.files import is_folder
from svllreid.jobs.demo_gallery import NAME, DemoGallery, make_gallery
from svllreid.jobs.preparing import Options
from svllreid.jobs.run_folder import RunFolder
from svllreid.jobs.testing import embed_splits, rank
from svllreid.jobs.training import train
from svllreid.rendered import synthesize
from svllreid.rendered.write import FOLDER
from svllreid.runtime.progress import LiveReport
from svllreid.types import Sample, Splits

CONFIG = "person/tiny_svllreid.yml"
# Degrees by which cameras turn colours. The tiny CLIP was pretrained without such cameras, so training can improve it.
HUE = 90.0


@dataclass(frozen=True)
class Demonstration:
    """The result of the demonstration.

    Args:
        rows: metrics of each kind of features, by its name.
        metrics: metrics.json of the trained model.
        picture: the picture of its ranked people.
        gallery: the test people, to be served; None where pymilvus is not installed.
    """

    rows: dict[str, dict[str, Any]]
    metrics: Path
    picture: Path
    gallery: DemoGallery | None


def run_demo(folder: Path, *, identities: int, seed: int, console: Console | None = None) -> Demonstration:
    """Render people into `folder`, train on half of them, and search for the others.

    Args:
        folder: its sub-folders `rendered_people`, `run` and `gallery` are replaced.
        identities: number of people to train; as many others are rendered to test.
        seed: seed of the people and of the training.
        console: shows the progress; None: on stderr.
    Raises: ReidError: the folder cannot be written, or its `rendered_people` or `gallery` was made by something else.
    """
    console = console or Console(stderr=True)
    data, run = folder / "rendered_people", folder / "run"  # a folder `data` might hold the user's files
    _check_replaceable(data, FOLDER)
    _check_replaceable(folder / "gallery", NAME)
    shutil.rmtree(data, ignore_errors=True)
    console.print(f"rendering {identities} people to train and {identities} others to test")
    synthesize(data, identities=identities, seed=seed, hue=HUE)
    settings = {"DATASETS.ROOT_DIR": str(data), "OUTPUT_DIR": str(run), "SOLVER.SEED": seed}
    config = load_config(CONFIG, settings)
    splits = build.build_splits(config)
    rows = {
        "raw pixels": measure_raw_pixels(splits),
        "before training": measure_untrained(config, splits, console),
    }
    trained = train(config, Options(device="cpu", fresh=True), console)
    rows["after both stages"] = trained or {}
    weights = RunFolder(run, config.model.name).final(config, 2)
    gallery = None
    try:
        gallery = make_gallery(folder / "gallery", weights, splits, seed, console)
    except GalleryError as error:
        console.print(
            f"no gallery to look at in a browser: {error}", markup=False, highlight=False, emoji=False, soft_wrap=True
        )
    return Demonstration(rows, run / "metrics.json", run / "ranklist.png", gallery)


def _check_replaceable(folder: Path, made: str) -> None:
    """Refuses to remove a folder that an earlier demonstration did not make, such as the gallery of a user's data."""
    names = [path.name for path in folder.iterdir()] if is_folder(folder) else []
    if names and not any(made in name for name in names):  # a killed one left a temporary name that holds it
        raise OutputError(
            f"{folder} would be replaced, but no demonstration made it; name a folder of its own for the demonstration"
        )


def measure_raw_pixels(splits: Splits) -> dict[str, Any]:
    """Metrics of the dataset's test images with their pixels as features."""
    q_feats, g_feats = raw_pixels(splits.query), raw_pixels(splits.gallery)
    features = FeatureSet(splits.name, splits.query, splits.gallery, q_feats, g_feats, splits.protocol)
    return evaluate_protocol(features).metrics


def raw_pixels(samples: Sequence[Sample], size: tuple[int, int] = (128, 64)) -> Tensor:
    """The pixels of n images as features (n, 3 * H * W), L2-normalised: the baseline that every method must beat.

    Args:
        samples: n images.
        size: height and width (H, W) that they are resized to.
    """
    height, width = size
    rows = [
        np.asarray(open_image(sample.path).resize((width, height), Image.Resampling.BILINEAR)) for sample in samples
    ]
    return torch.nn.functional.normalize(torch.from_numpy(np.stack(rows)).flatten(1).float(), dim=1)  # (n, 3 * H * W)


def measure_untrained(config: Config, splits: Splits, console: Console) -> dict[str, Any]:
    """Metrics of the dataset's test images with the features of the model before training."""
    data = build.TrainingData.of(splits.train)
    model = build.build_model_for(config, data)
    with LiveReport(console) as report:
        features = embed_splits(model, config, splits, build.build_fabric(config, "cpu"), report)
        return rank(features, config, report).metrics

"""The demonstration's gallery: the test people, to look at with `svllreid serve`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from svllreid import build
from svllreid.calibration.fit import calibrate
from svllreid.errors import EvaluationError, GalleryError
from svllreid.gallery.database_file import in_use
from svllreid.gallery.gallery import Gallery
from svllreid.runtime.progress import LiveReport
from svllreid.types import Sample, Splits

NAME = "people.db"
OPENING = 1_767_254_400.0
"""2026-01-01 08:00 UTC: rendered people come from then on."""


@dataclass(frozen=True)
class DemoGallery:
    """A gallery that can be served.

    Args:
        uri: its file.
        weights: the model.
        calibration: what distances mean; None where too few people were rendered to say.
    """

    uri: Path
    weights: Path
    calibration: Path | None

    @property
    def command(self) -> list[str]:
        """The words of the command that serves it."""
        words = ["svllreid", "serve", "--gallery", str(self.uri), "--weights", str(self.weights)]
        return words if self.calibration is None else [*words, "--calibration", str(self.calibration)]


def make_gallery(folder: Path, weights: Path, splits: Splits, seed: int, console: Console) -> DemoGallery:
    """A gallery of a dataset's gallery images, calibrated on its query images.

    Args:
        folder: it is replaced, as is what a server kept there.
        weights: the trained model.
        splits: the rendered people.
        seed: of the times at which they pass the cameras.
        console: shows the progress.
    Raises: GalleryError: pymilvus is not installed, or another process has the gallery open, as `svllreid serve` has.
    """
    uri = folder / NAME
    if in_use(uri):
        raise GalleryError(f"{uri} is open in another process; end it, such as svllreid serve, and repeat")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = build.Encoder.load(weights, device="cpu")
    samples = splits.gallery
    with (
        Gallery(uri, encoder, thumbnails=True) as gallery,
        LiveReport(console) as report,
        report.counting("gallery", len(samples)) as count,
    ):
        pids, camids = [sample.pid for sample in samples], [sample.camid for sample in samples]
        paths = [sample.path for sample in samples]
        gallery.add(paths, pids, camids, times_of(samples, seed), progress=count)
    try:
        features = encoder.encode([sample.path for sample in splits.query])
        calibration = calibrate(
            features,
            [sample.pid for sample in splits.query],
            [sample.camid for sample in splits.query],
            spec=encoder.spec.without_side_information(),
            dataset="the demo's query images",
        )
        calibration.usual_rate()
    except EvaluationError as error:
        console.print(f"no calibration: {error}", markup=False, highlight=False, emoji=False, soft_wrap=True)
        return DemoGallery(uri, weights, None)
    calibration.save(folder / "people.json")
    return DemoGallery(uri, weights, folder / "people.json")


def times_of(samples: Sequence[Sample], seed: int) -> list[float]:
    """Times for rendered images, which have none, in seconds since 1970.

    Each person comes within eight hours, passes the cameras minutes apart, and is taken every two seconds.

    Args:
        samples: n images; those of one person and camera follow each other in this order.
        seed: of the times.
    """
    draw = np.random.default_rng(seed)
    passes: dict[tuple[object, int], float] = {}
    arrivals: dict[object, float] = {}
    times = []
    for sample in sorted(set(samples), key=lambda sample: (str(sample.pid), sample.camid)):
        if (sample.pid, sample.camid) not in passes:
            before = arrivals.get(sample.pid, OPENING + draw.uniform(0, 8 * 3600))
            passes[sample.pid, sample.camid] = arrivals[sample.pid] = before + draw.uniform(60, 600)
    for sample in samples:
        times.append(round(passes[sample.pid, sample.camid], 1))
        passes[sample.pid, sample.camid] += 2.0
    return times

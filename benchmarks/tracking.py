"""Identity switches of BoxMOT's trackers with a model of svllreid, and without ReID.

    python benchmarks/tracking.py WEIGHTS [--videos N] [--frames N] [--tracker NAME ...] [--strip FILE]

Runs in an environment that has svllreid, BoxMOT and onnxscript (docs/tracking.md). The videos are drawn: three people
who are in no training set walk past a fixed camera, meet in pairs, stand one behind the other for a while, and either
pass or turn back. Detections are the true boxes with a little noise. Who is mostly hidden is not detected.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from svllreid import Encoder
from svllreid.embedding.boxmot import write_boxmot
from svllreid.rendered import Camera, draw_person, make_camera
from svllreid.rendered.attributes import Person
from svllreid.rendered.camera import expose
from svllreid.rendered.easel import Frame
from svllreid.rendered.figure import Pose, draw_figure

SIZE = (270, 480)  # height and width of a frame
TALL, SPEED = 110, 2.6  # a person's height in pixels, and pixels walked a frame
SUPERSAMPLE = 2
POPULATION = 1000  # the seed of the people, which no training set of the documents uses
SEEN, NOISE, MISSED = 0.5, 0.015, 0.02  # share that must be seen; noise of boxes by their size; other missed detections
TRACKERS = ("botsort", "strongsort", "deepocsort")


@dataclass
class Walker:
    """A person who walks to and fro.

    Args:
        person: how they look.
        x, y: the pixel between the feet; y says who stands before whom.
        heading: 1 to the right, -1 to the left.
        speed: pixels a frame.
        waits: frames that they still stand.
        phase: of the gait.
    """

    person: Person
    x: float
    y: float
    heading: int
    speed: float
    waits: int = 0
    phase: float = 0.0

    def step(self) -> None:
        """Walks on for a frame; at the edges of the frame they turn."""
        if self.waits:
            self.waits -= 1
            return
        if not 30 < self.x + self.heading * self.speed < SIZE[1] - 30:
            self.heading = -self.heading
        self.x += self.heading * self.speed
        self.phase += 0.22


@dataclass
class Video:
    """A drawn video with what is true of it.

    Args:
        frames: (H, W, 3) uint8 in BGR, as OpenCV reads them.
        boxes: (3, 4) for each frame, of each person.
        seen: (3,) for each frame, the share of each person that nobody hides.
    """

    frames: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    seen: list[np.ndarray] = field(default_factory=list)


def draw_video(seed: int, frames: int) -> Video:
    """Draws a video; the same arguments give the same one."""
    rng, video = np.random.default_rng(seed), Video()
    camera = make_camera(POPULATION + seed, 0, SIZE)
    top, left = (int(rng.integers(camera.background.shape[side] - SIZE[side] + 1)) for side in (0, 1))
    scene = camera.background[top : top + SIZE[0], left : left + SIZE[1]]
    starts = rng.permutation([60.0, 240.0, 420.0])
    walkers = [
        Walker(draw_person(POPULATION, 3 * seed + place), starts[place], 215.0 + 12 * place, int(rng.choice((-1, 1))),
               SPEED * rng.uniform(0.8, 1.2), phase=rng.uniform(0, 6))
        for place in range(3)
    ]  # fmt: skip
    met: set[tuple[int, int]] = set()
    for _ in range(frames):
        _meet(walkers, met, rng)
        for walker in walkers:
            walker.step()
        _draw_frame(video, walkers, scene, camera, rng)
    return video


def _meet(walkers: list[Walker], met: set[tuple[int, int]], rng: np.random.Generator) -> None:
    """Two who come to the same place wait there for a while; then both go on, or both turn back."""
    for pair in ((0, 1), (0, 2), (1, 2)):
        one, other = (walkers[place] for place in pair)
        apart = abs(one.x - other.x)
        if apart > 60:
            met.discard(pair)
        elif apart < 6 and pair not in met:
            met.add(pair)
            one.waits = other.waits = int(rng.integers(5, 25))
            if rng.random() < 0.5:
                one.heading, other.heading = -one.heading, -other.heading


def _draw_frame(
    video: Video, walkers: list[Walker], scene: np.ndarray, camera: Camera, rng: np.random.Generator
) -> None:
    picture, boxes, masks = scene.copy(), [], []
    for walker in walkers:  # the farthest first
        layer = Image.new("RGBA", (SIZE[1] * SUPERSAMPLE, SIZE[0] * SUPERSAMPLE))
        side = "right" if walker.heading > 0 else "left"
        pose = Pose("front" if walker.waits else side, float(np.sin(walker.phase)), 0.7)
        frame = Frame(walker.x * SUPERSAMPLE, walker.y * SUPERSAMPLE, TALL * SUPERSAMPLE)
        draw_figure(layer, walker.person, pose, frame)
        figure = np.asarray(layer.reduce(SUPERSAMPLE), dtype=np.float32)
        mask = figure[..., 3] > 127
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        alpha = figure[..., 3:] / 255
        picture += alpha * (figure[..., :3] - picture)
        masks = [(whole, left & ~mask) for whole, left in masks] + [(mask.sum(), mask)]
    video.frames.append(np.asarray(expose(camera, picture, rng))[..., ::-1].copy())
    video.boxes.append(np.array(boxes, dtype=np.float64))
    video.seen.append(np.array([left.sum() / whole for whole, left in masks]))


def detections(video: Video, seed: int) -> Iterator[np.ndarray]:
    """What a detector might find in each frame: (n, 6) x1, y1, x2, y2, confidence, class."""
    rng = np.random.default_rng(seed)
    for boxes, seen in zip(video.boxes, video.seen, strict=True):
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)  # (3, 4)
        noisy = boxes + NOISE * sides * rng.standard_normal(boxes.shape)
        found = (seen >= SEEN) & (rng.random(len(boxes)) >= MISSED)
        yield np.column_stack([noisy, np.clip(0.6 + 0.35 * seen, 0, 1), np.zeros(len(boxes))])[found]


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


@dataclass
class Score:
    """How well tracks keep to people.

    Args:
        switches: how often a person who is seen gets another track than before (CLEAR MOT).
        people, tracked, kept: numbers of boxes: true ones of people who are seen, those of tracks, and those of tracks
            that belong to the person of their track, each person having one track. IDF1 is made of them.
    """

    switches: int = 0
    people: int = 0
    tracked: int = 0
    kept: int = 0

    @property
    def idf1(self) -> float:
        """2 kept / (people + tracked)."""
        return 2 * self.kept / (self.people + self.tracked)

    def add(self, video: Video, tracks: list[np.ndarray]) -> None:
        """Adds a video with its tracks: for each frame rows x1, y1, x2, y2, track."""
        last: dict[int, int] = {}
        counts: dict[tuple[int, int], int] = {}
        for boxes, seen, rows in zip(video.boxes, video.seen, tracks, strict=True):
            people = np.flatnonzero(seen >= SEEN)
            self.people, self.tracked = self.people + len(people), self.tracked + len(rows)
            close = overlaps(boxes[people], rows[:, :4])
            numbers = rows[:, 4].astype(int)
            close[close < 0.5] = 0
            # A pair of the frame before comes first, as in CLEAR MOT; two for each pair more than settles that.
            kept = np.array(
                [[last.get(person) == number for number in numbers] for person in people.tolist()], dtype=bool
            )
            gain = close + 2 * (kept.reshape(close.shape) & (close > 0))
            for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
                if close[row, column] > 0:
                    person, number = int(people[row]), int(numbers[column])
                    self.switches += last.get(person, number) != number
                    last[person] = number
            for row, column in zip(*np.nonzero(close), strict=True):
                key = int(people[row]), int(numbers[column])
                counts[key] = counts.get(key, 0) + 1
        if counts:
            columns = sorted({number for _, number in counts})
            table = np.array([[counts.get((person, number), 0) for number in columns] for person in range(3)])
            self.kept += int(table[linear_sum_assignment(table, maximize=True)].sum())


class Alike:
    """Stands in for a model where a tracker works with features only: everybody has the same feature."""

    def get_features(self, boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Features (n, 2) of n boxes."""
        return np.full((len(boxes), 2), 0.5**0.5, dtype=np.float32)


def track(name: str, model: Any, video: Video, seed: int) -> list[np.ndarray]:
    """The tracks of a video by a tracker of BoxMOT with its default settings; `model` None is without ReID."""
    from boxmot import BotSort, DeepOcSort, StrongSort
    from boxmot.trackers.config import load_tracker_config

    settings = load_tracker_config(name)
    if name == "strongsort":
        tracker = StrongSort(**settings, reid_model=model or Alike())
    else:
        kind = {"botsort": BotSort, "deepocsort": DeepOcSort}[name]
        tracker = kind(**settings | {"use_embeddings": model is not None}, reid_model=model)
    pairs = zip(video.frames, detections(video, seed), strict=True)
    return [tracker.update(found, frame).reshape(-1, 8) for frame, found in pairs]


def main() -> None:
    """Draws the videos, tracks the people in them with and without ReID, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a checkpoint with its .json")
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--frames", type=int, default=300, help="of each video")
    parser.add_argument("--tracker", nargs="+", choices=TRACKERS, default=TRACKERS)
    parser.add_argument("--strip", type=Path, help="write some frames of the first video as a picture")
    given = parser.parse_args()
    from boxmot.reid.core.runtime import ReID

    logging.getLogger("boxmot").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        write_boxmot(Encoder.load(given.weights, device="cpu").embedder, Path(folder) / "model.onnx")
        model = ReID(Path(folder) / "model.onnx").model
    videos = [draw_video(seed, given.frames) for seed in range(given.videos)]
    if given.strip:
        shown = videos[0].frames[:: max(1, given.frames // 6)][:6]
        Image.fromarray(np.hstack(shown)[..., ::-1]).resize((6 * 240, 135)).save(given.strip)
    people = sum(int((seen >= SEEN).sum()) for video in videos for seen in video.seen)
    hidden = sum(int((seen < SEEN).sum()) for video in videos for seen in video.seen)
    print(
        f"{given.videos} videos of {given.frames} frames: {people} boxes of people, and {hidden} who are mostly hidden"
    )
    print("| tracker | ReID | identity switches | IDF1 |\n|---|---|---|---|")
    for name in given.tracker:
        for title, reid in (("none", None), (Path(given.weights).name, model)):
            score = Score()
            for seed, video in enumerate(videos):
                score.add(video, track(name, reid, video, seed))
            print(f"| {name} | {title} | {score.switches} | {100 * score.idf1:.1f} % |", flush=True)


if __name__ == "__main__":
    main()

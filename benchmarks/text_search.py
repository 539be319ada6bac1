"""Search by words among rendered people, before and after training: recall at 1, 5 and 10.

    python benchmarks/text_search.py FOLDER [--seeds 0 1 2] [--people 100] [--runs demo "same cameras" longer]

For each run and seed, both stages are trained with `person/tiny_svllreid.yml` on rendered people; what is trained
already in FOLDER is used again. Searched are images of other people by the same cameras, with three kinds of texts:

    description  the full description of each person
    clothes      "a person in a red jacket and black trousers", in the words of the tiny CLIP's captions
    other words  "somebody in a red coat and black pants", in words that its captions do not have

A text is found where one of the k nearest images shows a person whom it fits: one with the same description, or whose
clothes the text names. Equal texts are one query. Chance is the mean over the queries of the exact probability that
k images drawn without replacement include one that fits. Printed are means and deviations over the seeds, in percent,
then what storing the features from before training beside costs.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from svllreid import Encoder, TextEncoder, build, load_config
from svllreid.config import from_tree
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.embedding.torch import TorchEmbedder
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train
from svllreid.models.reid import SVLLReID
from svllreid.rendered import synthesize
from svllreid.rendered.attributes import Person, draw_person
from svllreid.rendered.camera import make_camera
from svllreid.rendered.description import describe_person, with_article
from svllreid.rendered.shot import draw_image

CONFIG = "person/tiny_svllreid.yml"
FIRST_PID, CAMERAS, SHOTS = 1001, 4, 2  # of the people searched, none of whom is trained on; images by each camera


@dataclass(frozen=True)
class Run:
    """A training: angle by which cameras turn hues, number of people, and settings that differ from CONFIG's."""

    hue: float
    identities: int
    settings: dict[str, object]


RUNS = {
    "demo": Run(90, 32, {}),
    "same cameras": Run(0, 32, {}),
    "longer": Run(0, 32, {"SOLVER.STAGE2.MAX_EPOCHS": 40, "SOLVER.STAGE2.STEPS": [28, 36]}),
}
KS = (1, 5, 10)
OTHER = {"trousers": "pants", "shorts": "short pants", "skirt": "skirt"}


@dataclass(frozen=True)
class Query:
    """A text, and for each image whether it shows a person whom the text fits, (n,) bool."""

    text: str
    fits: np.ndarray


def clothes(person: Person) -> tuple[str, str]:
    """The upper and the lower garment in words of the captions."""
    upper = f"{person.jacket.name} jacket" if person.jacket is not None else f"{person.upper.name} shirt"
    lower = f"{person.lower.name} {person.lower_kind}"
    return with_article(upper), with_article(lower) if person.lower_kind == "skirt" else lower


def in_clothes(person: Person) -> str:
    """For example: a person in a red jacket and black trousers."""
    return "a person in {} and {}".format(*clothes(person))


def in_other_words(person: Person) -> str:
    """For example: somebody in a red coat and black pants."""
    upper, lower = clothes(person)
    upper = upper.replace("jacket", "coat").replace("shirt", "sweater")
    return f"somebody in {upper} and {lower.replace(person.lower_kind, OTHER[person.lower_kind])}"


KINDS: dict[str, Callable[[Person], str]] = {
    "description": describe_person,
    "clothes": in_clothes,
    "other words": in_other_words,
}


def queries(people: Sequence[Person], owners: np.ndarray, text_of: Callable[[Person], str]) -> list[Query]:
    """A query for each different text; `owners` (n,) is the index of the person in each image."""
    texts = [text_of(person) for person in people]
    of_images = np.array(texts)[owners]
    return [Query(text, of_images == text) for text in dict.fromkeys(texts)]


def recalls(scores: np.ndarray, asked: Sequence[Query]) -> list[float]:
    """Recall at each of KS for scores (queries, n), larger is nearer."""
    ranked = np.argsort(-scores, axis=1, kind="stable")
    fits = np.stack([query.fits[row] for query, row in zip(asked, ranked, strict=True)])
    return [float(fits[:, :k].any(axis=1).mean()) for k in KS]


def chance(asked: Sequence[Query]) -> list[float]:
    """Expected recall at each of KS of a random order."""

    def missed(query: Query, k: int) -> float:
        n, fitting = len(query.fits), int(query.fits.sum())
        return math.comb(n - fitting, k) / math.comb(n, k)

    return [statistics.fmean(1 - missed(query, k) for query in asked) for k in KS]


def trained(folder: Path, run: Run, seed: int) -> Path:
    """The checkpoint after both stages of a run, which is trained now if the folder does not hold it."""
    data, output = folder / "people", folder / "run"
    settings = {"DATASETS.ROOT_DIR": str(data), "OUTPUT_DIR": str(output), "SOLVER.SEED": seed, **run.settings}
    config = load_config(CONFIG, settings)
    weights = output / f"tiny_{config.solver.stage2.max_epochs}.pth"
    if not weights.is_file():
        if not data.exists():
            synthesize(data, identities=run.identities, seed=seed, hue=run.hue)
        train(config, Options(device="cpu"), Console(stderr=True, quiet=True))
    return weights


def neck_slope(model: SVLLReID) -> np.ndarray:
    """The factor (E,) by which the BNNeck of `proj` stretches each dimension."""
    neck = model.bottleneck_proj.eval()
    zeros = torch.zeros(1, neck.num_features)
    return (neck(zeros + 1) - neck(zeros)).detach().numpy()[0]


def scored(weights: Path, images: list[Image.Image], camids: list[int], asked: list[Query]) -> dict[str, list[float]]:
    """Recalls of the queries by each way of searching."""
    texts = [query.text for query in asked]
    model, config, _ = build.load_trained(weights)
    after = from_tree(config.to_yaml_tree(), "after the necks", {"TEST.NECK_FEAT": "after"})
    words, words_after = (TextEncoder.load(weights, each, "cpu") for each in (config, after))
    transform = build.build_test_transform(config)
    tuned = FeatureEncoder(
        TorchEmbedder(model, transform, torch.device("cpu"), neck="joint"), transform.resize, model.side_rows
    )
    stored, stored_after = (Encoder.load(weights, each, "cpu").encode(images, camids) for each in (config, after))
    joint = words.encode(texts)
    proj = slice(model.image_encoder.final_dim, None)
    scores = {
        "features from before training": joint @ words.pretrained_encoder().encode(images).T,
        "trained joint space": joint @ tuned.encode(images, camids).T,
        "stored features, proj part": joint @ stored[:, proj].T,
        "stored features, `queries`": words.queries(texts) @ stored.T,
        "after the necks, proj part": joint / neck_slope(model) @ stored_after[:, proj].T,
        "after the necks, `queries`": words_after.queries(texts) @ stored_after.T,
    }
    return {"chance": chance(asked)} | {name: recalls(each, asked) for name, each in scores.items()}


def measure(folder: Path, run: Run, seed: int, count: int) -> dict[tuple[str, str], list[float]]:
    """Recalls for each kind of text and way of searching."""
    weights = trained(folder, run, seed)
    pids = range(FIRST_PID, FIRST_PID + count)
    cameras = [make_camera(seed, camid, hue=run.hue) for camid in range(CAMERAS)]
    shown = [(pid, camid, shot) for pid in pids for camid in range(CAMERAS) for shot in range(SHOTS)]
    images = [draw_image(seed, pid, cameras[camid], shot) for pid, camid, shot in shown]
    people = [draw_person(seed, pid) for pid in pids]
    owners = np.array([pid - FIRST_PID for pid, _, _ in shown])
    result = {}
    for kind, text_of in KINDS.items():
        found = scored(weights, images, [camid for _, camid, _ in shown], queries(people, owners, text_of))
        result |= {(kind, way): values for way, values in found.items()}
    return result


def costs(weights: Path) -> str:
    """Bytes and time of a crop: of the stored features, and of those from before training beside them."""
    words, stored = TextEncoder.load(weights, device="cpu"), Encoder.load(weights, device="cpu")
    beside = words.pretrained_encoder()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8))
    parts = []
    for name, encoder in (("stored features", stored), ("beside", beside)):
        encoder.encode([image] * 256)  # warms up
        times = []
        for _ in range(5):
            start = time.perf_counter()
            encoder.encode([image] * 512)
            times.append((time.perf_counter() - start) / 512)
        parts.append(f"{name} {encoder.spec.dim * 4:,} bytes, {statistics.median(times) * 1000:.2f} ms")
    return f"a crop, {torch.get_num_threads()} threads: " + "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds the runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--people", type=int, default=100, help="who are searched, with eight images each")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    args = parser.parse_args()
    for name in args.runs:
        table = defaultdict(list)
        for seed in args.seeds:
            folder = args.folder / f"{name.replace(' ', '_')}_seed{seed}"
            for key, values in measure(folder, RUNS[name], seed, args.people).items():
                table[key].append(values)
        print(f"{name}: {len(args.seeds)} seeds")
        for (kind, way), values in table.items():
            means, deviations = 100 * np.mean(values, axis=0), 100 * np.std(values, axis=0, ddof=len(values) > 1)
            cells = "  ".join(f"{mean:5.1f} ± {spread:4.1f}" for mean, spread in zip(means, deviations, strict=True))
            print(f"{kind:>12} {way:30} {cells}", flush=True)
    print(costs(trained(folder, RUNS[name], seed)))


if __name__ == "__main__":
    main()

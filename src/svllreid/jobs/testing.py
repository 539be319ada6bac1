"""Testing: features of a checkpoint's model, or saved ones, ranked under their protocol."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric import Fabric
from rich.console import Console
from torch import Tensor

from svllreid import build
from svllreid.config import Config, from_tree, load_config, override_pairs
from svllreid.data.loader import batches
from svllreid.embedding.loop import extract
from svllreid.errors import ConfigError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import Outcome, check_countable, evaluate_protocol
from svllreid.evaluation.ranking.measures import MEASURES
from svllreid.files import user_path, write_json
from svllreid.jobs.preparing import Options, check_cameras, load_test_splits, without_foreign_sie
from svllreid.jobs.reporting import write_results
from svllreid.models.checkpoint import read_info
from svllreid.models.reid import SVLLReID
from svllreid.runtime.processes import own_rows, rows_of_all
from svllreid.runtime.progress import LiveReport, logging_to
from svllreid.types import Batch, Origin, Sample, SideRows, Splits

logger = logging.getLogger(__name__)


def test_config(config_file: Path | None, overrides: Sequence[str]) -> Config:
    """A test's configuration: of the file, or without one of the checkpoint that TEST.WEIGHT names."""
    config = load_config(config_file, overrides)
    if not config.test.weight:
        raise ConfigError(
            "no checkpoint to test: set TEST.WEIGHT, for example TEST.WEIGHT outputs/run/ViT-B-16_60.pth, or name "
            "saved features with --features"
        )
    info = None if config_file else read_info(user_path(config.test.weight))
    if info is None:
        return config
    tree = {**info.config, "OUTPUT_DIR": ""}  # the run's own folder holds the run's own numbers
    if "DATASETS.NAMES" in dict(override_pairs(overrides)):  # what the run was tested on gives way to what is named now
        tree["DATASETS"] = {**tree["DATASETS"], "TEST": [], "VAL_IDENTITIES": 0}
    return from_tree(tree, config.test.weight, overrides)


def asks_for_sie(config: Config, overrides: Sequence[str]) -> bool:
    """Whether the words of a command line switch side information on, instead of leaving it as trained."""
    given = dict(override_pairs(overrides))
    return ("MODEL.SIE_CAMERA" in given and config.model.sie_camera) or (
        "MODEL.SIE_VIEW" in given and config.model.sie_view
    )


def run_test(
    config: Config, options: Options = Options(), console: Console | None = None, *, save_features: bool = False
) -> dict[str, Any]:
    """Test the checkpoint TEST.WEIGHT on DATASETS.TEST, or on the dataset of the configuration.

    Without OUTPUT_DIR files go to a folder `test_<datasets>` beside the checkpoint.

    Returns: what metrics.json holds, see `write_tests`.
    Raises: ReidError: anything the user can mend.
    """
    path = user_path(config.test.weight)
    console = console or Console(stderr=True)
    with logging_to(None, console), LiveReport(console) as report:
        model, config, info = build.load_trained(path, config)
        fabric = build.build_fabric(config, options.device)
        tests = load_test_splits(config, options, report)
        folder = path.parent / f"test_{'+'.join(tests)}"
        if config.output_dir:
            folder = user_path(config.output_dir)
        origin = build.trained_on(from_tree(info.config, str(path)) if info is not None else config, info)
        prepared = prepare_tests(tests, config, origin, model.side_rows, keep_sie=options.keep_sie)
        log_notes(prepared)
        measured = (measure(test, model, fabric, report) for test in prepared)
        return write_tests(folder, measured, len(tests), report, path, save_features=save_features)


def run_features(file: Path, config: Config, console: Console | None = None) -> dict[str, Any]:
    """Rank saved features again, under TEST.RE_RANKING and TEST.FAR, without the model.

    Without OUTPUT_DIR files go to a folder `test_<dataset>` beside the features.

    Raises: ReidError: anything the user can mend.
    """
    console = console or Console(stderr=True)
    with logging_to(None, console), LiveReport(console) as report:
        features = FeatureSet.load(user_path(file))
        folder = user_path(file).parent / f"test_{features.name}"
        if config.output_dir:
            folder = user_path(config.output_dir)
        measured = Measured(features, rank(features, config, report), config)
        return write_tests(folder, [measured], 1, report, file)


@dataclass(frozen=True)
class TestSet:
    """A dataset to test on.

    Args:
        name: what its numbers and files are called.
        splits: its query and gallery.
        config: the run's configuration, side information off where the model does not know the dataset's cameras.
    """

    __test__ = False  # not a test case, whatever its name

    name: str
    splits: Splits
    config: Config


@dataclass(frozen=True)
class Measured:
    """A test set's features, how they rank, and the configuration under which they were made."""

    features: FeatureSet
    outcome: Outcome
    config: Config


def prepare_tests(
    tests: Mapping[str, Splits], config: Config, trained_on: Origin, side_rows: SideRows, *, keep_sie: bool = False
) -> list[TestSet]:
    """Check what labels and cameras tell of test sets, and fit the configuration to each; no image is read.

    Args:
        tests: the splits by name.
        config: of the run.
        trained_on: the first dataset trained on, whose cameras side information knows.
        side_rows: the cameras and views that the model knows.
        keep_sie: leave side information on, whatever the dataset.
    Raises: DatasetError: a camera or view the model does not know. EvaluationError: no query could be counted.
    """
    prepared = []
    for name, splits in tests.items():
        own, notes = without_foreign_sie(config, splits, trained_on, keep_sie)
        check_cameras(own, splits, side_rows)
        query, gallery = (np.empty((len(side), 0), np.float32) for side in (splits.query, splits.gallery))
        check_countable(replace(FeatureSet.of(splits, query, gallery), name=name))
        prepared.append(TestSet(name, replace(splits, notes=(*splits.notes, *notes)), own))
    return prepared


def log_notes(tests: Sequence[TestSet]) -> None:
    """Say what is special about each test set."""
    for test in tests:
        for note in test.splits.notes:
            logger.info("%s: %s", test.name, note)


def measure(test: TestSet, model: SVLLReID, fabric: Fabric, report: LiveReport) -> Measured | None:
    """Embed a test set, every process a share of it, and rank it on the first process; None on the others."""
    features = replace(embed_splits(model, test.config, test.splits, fabric, report), name=test.name)
    return Measured(features, rank(features, test.config, report), test.config) if fabric.is_global_zero else None


def write_tests(
    folder: Path,
    measured: Iterable[Measured | None],
    count: int,
    report: LiveReport,
    weight: Path,
    *,
    save_features: bool = False,
) -> dict[str, Any]:
    """Write the results of test sets, each as soon as it is measured.

    Args:
        folder: of the results of one test set; of several, each gets a folder of its name below it.
        measured: what `measure` gives of each test set.
        count: how many there are.
        weight: the model's file, or where the features come from.
        save_features: also write features.npz.
    Returns: what metrics.json in `folder` holds: the metrics, or of several test sets `{"datasets": {name: metrics}}`;
        nothing on other processes than the first.
    """
    written: dict[str, dict[str, Any]] = {}
    for result in measured:
        if result is None:  # the first process ranks and writes
            continue
        name, size = result.features.name, result.config.input.size_test
        below = folder / name if count > 1 else folder
        if save_features:
            result.features.save(below / "features.npz")
            logger.info("features: %s", below / "features.npz")
        written[name] = write_results(
            below,
            result.features,
            result.outcome,
            report,
            weight=str(weight),
            false_accept_rates=result.config.test.far,
            picture=(128, max(1, round(128 * size[1] / size[0]))),
        )
    if count == 1 or not written:
        return next(iter(written.values()), {})
    everything = {"datasets": written}
    write_json(folder / "metrics.json", everything)
    logger.info("all numbers: %s", folder / "metrics.json")
    return everything


def embed_splits(model: SVLLReID, config: Config, splits: Splits, fabric: Fabric, report: LiveReport) -> FeatureSet:
    """The features of a dataset's query and gallery; every process embeds a share and gets all."""
    embedder = build.build_embedder(config, model, fabric)

    def embed(batch: Batch) -> Tensor:
        return embedder(batch.images, batch.camids, batch.viewids)

    def features(name: str, samples: Sequence[Sample]) -> Tensor:
        own = [samples[row] for row in own_rows(len(samples))]
        loader = build.build_test_loader(config, own, fabric, model.side_rows)
        with report.counting(f"features of {name}", len(own)) as count:
            found = extract(embed, batches(loader), fabric.device, count)
        return rows_of_all(found, len(samples), fabric.device)

    q_feats = features("query", splits.query)
    g_feats = features("gallery", splits.gallery) if splits.gallery else q_feats[:0]
    return FeatureSet.of(splits, q_feats, g_feats, embedder.spec)


def read_tests(file: Path) -> dict[str, Any] | None:
    """What `write_tests` wrote to metrics.json; None where the file, or a number that is shown of it, is missing."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        for row in content["datasets"].values() if "datasets" in content else [content]:
            blocks = row["parts"].values() if "parts" in row else [row]
            numbers = [block[name] for block in blocks for name in (*MEASURES, "num_queries", "num_gallery")]
            numbers += [block["deviation"][name] for block in blocks if block.get("deviation") for name in MEASURES]
            if not all(type(number) in (int, float) for number in numbers) or not isinstance(row["dataset"], str):
                return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return content


def rank(features: FeatureSet, config: Config, report: LiveReport) -> Outcome:
    """Rank features under their protocol, and re-rank where TEST.RE_RANKING says so."""
    with report.tracking("ranking") as progress:
        return evaluate_protocol(features, rerank=build.build_rerank(config), progress=progress)

"""Testing: the features of a checkpoint's model, or saved features, are ranked under their protocol."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from rich.console import Console

from svllreid import build
from svllreid.config import Config, from_tree, load_config, override_pairs
from svllreid.errors import ConfigError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import Outcome, check_countable, evaluate_protocol
from svllreid.evaluation.ranking.measures import MEASURES
from svllreid.files import check_output_folder, user_path, write_json
from svllreid.jobs.embedding import embed_samples
from svllreid.jobs.preparing import Options, check_cameras, load_test_splits, without_foreign_sie
from svllreid.jobs.reporting import write_results
from svllreid.models.checkpoint import read_info
from svllreid.models.reid import SVLLReID
from svllreid.runtime.progress import LiveReport, logging_to
from svllreid.types import Origin, SideRows, Splits

logger = logging.getLogger(__name__)


def test_config(config_file: Path | None, overrides: Sequence[str]) -> Config:
    """The configuration of a test: from the file, or without one from the checkpoint that TEST.WEIGHT names.

    Args:
        config_file: a YAML file; None takes the configuration in the checkpoint's .json.
        overrides: KEY VALUE words of the command line.
    Raises: ConfigError: TEST.WEIGHT is not set, or the configuration is not valid.
    """
    config = load_config(config_file, overrides)
    if not config.test.weight:
        raise ConfigError(
            "no checkpoint to test: set TEST.WEIGHT, for example TEST.WEIGHT outputs/run/ViT-B-16_60.pth, or name "
            "saved features with --features"
        )
    info = None if config_file else read_info(user_path(config.test.weight))
    if info is None:
        return config
    tree = {**info.config, "OUTPUT_DIR": ""}  # not the folder of the run, which holds the metrics of the run
    if "DATASETS.NAMES" in dict(override_pairs(overrides)):  # the named dataset replaces the test sets of the run
        tree["DATASETS"] = {**tree["DATASETS"], "TEST": [], "VAL_IDENTITIES": 0}
    return from_tree(tree, config.test.weight, overrides)


def asks_for_sie(config: Config, overrides: Sequence[str]) -> bool:
    """Whether words of the command line switch side information on, so that it is not only on because of training."""
    given = dict(override_pairs(overrides))
    return ("MODEL.SIE_CAMERA" in given and config.model.sie_camera) or (
        "MODEL.SIE_VIEW" in given and config.model.sie_view
    )


def run_test(
    config: Config, options: Options = Options(), console: Console | None = None, *, save_features: bool = False
) -> dict[str, Any]:
    """Test the checkpoint TEST.WEIGHT on DATASETS.TEST, or on the dataset of the configuration, and write the results.

    Without OUTPUT_DIR the files go to a folder `test_<datasets>` next to the checkpoint.

    Args:
        config: the configuration, see `test_config`.
        options: the options of the command line.
        console: shows the progress; None: on stderr.
        save_features: whether to write features.npz too.
    Returns: the content of metrics.json, see `write_tests`.
    Raises: ReidError: anything that the user can fix.
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
        check_output_folder(folder)
        log_notes(prepared)
        measured = (measure(test, model, fabric, report) for test in prepared)
        return write_tests(folder, measured, len(tests), path, save_features=save_features)


def run_features(file: Path, config: Config, console: Console | None = None) -> dict[str, Any]:
    """Rank saved features again without the model, and write the results; TEST.RE_RANKING and TEST.FAR apply.

    Without OUTPUT_DIR the files go to a folder `test_<dataset>` next to the features.

    Args:
        file: an .npz archive, see `FeatureSet.load`.
        config: the configuration.
        console: shows the progress; None: on stderr.
    Returns: the content of metrics.json, see `write_tests`.
    Raises: ReidError: anything that the user can fix.
    """
    console = console or Console(stderr=True)
    with logging_to(None, console), LiveReport(console) as report:
        features = FeatureSet.load(user_path(file))
        folder = user_path(file).parent / f"test_{features.name}"
        if config.output_dir:
            folder = user_path(config.output_dir)
        measured = Measured(features, rank(features, config, report, analysed=True), config)
        return write_tests(folder, [measured], 1, file)


@dataclass(frozen=True)
class TestSet:
    """A dataset to test on.

    Args:
        name: its name in metrics and of its folder.
        splits: its query and gallery.
        config: the configuration, with side information switched off if the model does not know the dataset's cameras.
    """

    __test__ = False  # keeps pytest from taking the class for a test

    name: str
    splits: Splits
    config: Config


@dataclass(frozen=True)
class Measured:
    """The features of a test set, their ranking, and the configuration under which they were made."""

    features: FeatureSet
    outcome: Outcome
    config: Config


def prepare_tests(
    tests: Mapping[str, Splits], config: Config, trained_on: Origin, side_rows: SideRows, *, keep_sie: bool = False
) -> list[TestSet]:
    """Check the labels and cameras of test sets and adapt the configuration to each; no image is read.

    Args:
        tests: the splits by name.
        config: the configuration of the model.
        trained_on: the (first) dataset that the model was trained on, whose cameras the side information knows.
        side_rows: the cameras and viewpoints that have a row of the side information.
        keep_sie: keep side information on for any dataset.
    Raises: DatasetError: a camera or viewpoint has no row. EvaluationError: no query could be counted.
    """
    prepared = []
    for name, splits in tests.items():
        adapted, notes = without_foreign_sie(config, splits, trained_on, keep_sie)
        check_cameras(adapted, splits, side_rows)
        query, gallery = (np.empty((len(side), 0), np.float32) for side in (splits.query, splits.gallery))
        check_countable(replace(FeatureSet.of(splits, query, gallery), name=name))
        prepared.append(TestSet(name, replace(splits, notes=(*splits.notes, *notes)), adapted))
    return prepared


def log_notes(tests: Sequence[TestSet]) -> None:
    """Log the notes of each test set."""
    for test in tests:
        for note in test.splits.notes:
            logger.info("%s: %s", test.name, note)


def measure(
    test: TestSet, model: SVLLReID, fabric: Fabric, report: LiveReport, *, analysed: bool = True
) -> Measured | None:
    """Embed a test set, each process a share of it, and rank it on the first process; the others get None.

    Args:
        test: the test set.
        model: the model.
        fabric: device and processes.
        report: shows the progress.
        analysed: whether to compute everything that the files of a test need; otherwise only the ranking.
    Raises: ImageError: an image cannot be read. EvaluationError: the features cannot be ranked.
    """
    features = replace(embed_splits(model, test.config, test.splits, fabric, report), name=test.name)
    if not fabric.is_global_zero:
        return None
    # Devices other than CUDA rank more slowly than the CPU, or less exactly.
    device = fabric.device if fabric.device.type == "cuda" else None
    outcome = rank(features, test.config, report, device=device, analysed=analysed)
    return Measured(features, outcome, test.config)


def write_tests(
    folder: Path,
    measured: Iterable[Measured | None],
    count: int,
    weight: Path,
    *,
    save_features: bool = False,
) -> dict[str, Any]:
    """Write the results of test sets, each as soon as it is measured.

    Args:
        folder: the folder of the results. Several test sets each get a sub-folder with their name.
        measured: the result of `measure` for each test set.
        count: number of test sets.
        weight: the file of the model or of the saved features.
        save_features: whether to write features.npz too.
    Returns: the content of metrics.json in `folder`: the metrics, or for several test sets
        `{"datasets": {name: metrics}}`. On all processes but the first it is empty.
    """
    written: dict[str, dict[str, Any]] = {}
    for result in measured:
        if result is None:  # only the first process ranks and writes
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
    """The features of a dataset's query and gallery; each process embeds a share and gets all of them."""
    embedder = build.build_embedder(config, model, fabric)
    query, gallery = (
        embed_samples(
            embedder, samples, config, fabric, report, text=f"features of {name}", side_rows=model.side_rows
        ).vectors
        for name, samples in (("query", splits.query), ("gallery", splits.gallery))
    )
    return FeatureSet.of(splits, query, gallery, embedder.spec)


def read_tests(file: Path) -> dict[str, Any] | None:
    """The content of a metrics.json that `write_tests` wrote; None if the file or a number that is shown is missing."""
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


def rank(
    features: FeatureSet,
    config: Config,
    report: LiveReport,
    *,
    device: torch.device | None = None,
    analysed: bool = False,
) -> Outcome:
    """Rank features under their protocol, and re-rank them if TEST.RE_RANKING is on; see `evaluate_protocol`."""
    rerank = build.build_rerank(config)
    with report.tracking("ranking") as progress:
        return evaluate_protocol(features, rerank=rerank, device=device, analysed=analysed, progress=progress)

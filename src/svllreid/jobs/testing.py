"""Testing: features of a checkpoint's model, or saved ones, ranked under their protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric import Fabric
from rich.console import Console
from torch import Tensor

from svllreid import build
from svllreid.config import Config, from_tree, load_config
from svllreid.data.dataset import batches
from svllreid.embedding.loop import extract
from svllreid.errors import ConfigError
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import Outcome, evaluate_protocol
from svllreid.files import write_json
from svllreid.jobs.preparing import Options, check_cameras, load_test_splits, without_foreign_sie
from svllreid.jobs.reporting import write_results
from svllreid.models.checkpoint import read_info
from svllreid.models.reid import SVLLReID
from svllreid.training.parallel import all_shares, own_share
from svllreid.training.report import LiveReport, logging_to
from svllreid.types import Batch, Sample, Splits

logger = logging.getLogger(__name__)


def test_config(config_file: Path | None, overrides: Sequence[str]) -> Config:
    """A test's configuration: of the file, or without one of the checkpoint that TEST.WEIGHT names."""
    config = load_config(config_file, overrides)
    if not config.test.weight:
        raise ConfigError(
            "no checkpoint to test: set TEST.WEIGHT, for example TEST.WEIGHT outputs/run/ViT-B-16_60.pth, or name "
            "saved features with --features"
        )
    info = None if config_file else read_info(Path(config.test.weight).expanduser())
    if info is None:
        return config
    tree = {**info.config, "OUTPUT_DIR": ""}  # the run's own folder holds the run's own numbers
    given = {word.partition("=")[0].upper() for word in overrides}
    if "DATASETS.NAMES" in given:  # what the run was tested on gives way to what is named now
        tree["DATASETS"] = {**tree["DATASETS"], "TEST": [], "VAL_IDENTITIES": 0}
    return from_tree(tree, config.test.weight, overrides)


def run_test(
    config: Config, options: Options = Options(), console: Console | None = None, *, save_features: bool = False
) -> dict[str, Any]:
    """Test the checkpoint TEST.WEIGHT on DATASETS.TEST, or on the dataset of the configuration.

    Without OUTPUT_DIR files go to a folder `test_<datasets>` beside the checkpoint.

    Returns: what metrics.json holds, see `test_on`.
    Raises: ReidError: anything the user can mend.
    """
    path = Path(config.test.weight).expanduser()
    console = console or Console(stderr=True)
    with logging_to(None, console), LiveReport(console) as report:
        model, config, info = build.load_trained(path, config)
        fabric = build.build_fabric(config, options.device)
        tests = load_test_splits(config, options, report)
        folder = path.parent / f"test_{'+'.join(tests)}"
        if config.output_dir:
            folder = Path(config.output_dir).expanduser()
        trained_on = _trained_on(info.config if info is not None else config.to_yaml_tree(), str(path))
        return test_on(tests, model, config, trained_on, fabric, report, folder, path, save_features=save_features)


def run_features(file: Path, config: Config, console: Console | None = None) -> dict[str, Any]:
    """Rank saved features again, under TEST.RE_RANKING and TEST.FAR, without the model.

    Without OUTPUT_DIR files go to a folder `test_<dataset>` beside the features.

    Raises: ReidError: anything the user can mend.
    """
    console = console or Console(stderr=True)
    with logging_to(None, console), LiveReport(console) as report:
        features = FeatureSet.load(file.expanduser())
        folder = file.expanduser().parent / f"test_{features.name}"
        if config.output_dir:
            folder = Path(config.output_dir).expanduser()
        return rank_and_write(folder, features, config, report, str(file))


def test_on(
    tests: Mapping[str, Splits],
    model: SVLLReID,
    config: Config,
    trained_on: str,
    fabric: Fabric,
    report: LiveReport,
    folder: Path,
    weight: Path,
    *,
    save_features: bool = False,
) -> dict[str, Any]:
    """Test a model on datasets and write what was found: of one to `folder`, of several each to a folder below it.

    Args:
        tests: the splits by name.
        model: the trained network.
        config: of the run.
        trained_on: the first dataset trained on, whose cameras side information knows.
        save_features: also write features.npz.
    Returns: what metrics.json in `folder` holds: the metrics, or of several datasets `{"datasets": {name: metrics}}`.
    """
    prepared = {}
    for name, splits in tests.items():
        own, notes = without_foreign_sie(config, splits, trained_on)
        check_cameras(own, splits, model.num_cameras, model.num_views)
        for note in (*splits.notes, *notes):
            logger.info("%s: %s", name, note)
        prepared[name] = own
    results = {}
    for name, splits in tests.items():
        own = prepared[name]
        below = folder / name if len(tests) > 1 else folder
        features = replace(embed_splits(model, own, splits, fabric, report), name=name)
        if save_features and fabric.is_global_zero:
            features.save(below / "features.npz")
            logger.info("features: %s", below / "features.npz")
        results[name] = rank_and_write(below, features, own, report, str(weight)) if fabric.is_global_zero else {}
    if len(tests) == 1 or not fabric.is_global_zero:
        return results[name]
    everything = {"datasets": results}
    write_json(folder / "metrics.json", everything)
    logger.info("all numbers: %s", folder / "metrics.json")
    return everything


def embed_splits(model: SVLLReID, config: Config, splits: Splits, fabric: Fabric, report: LiveReport) -> FeatureSet:
    """The features of a dataset's query and gallery; every process embeds a share and gets all."""
    embedder = build.build_embedder(config, model, fabric)

    def embed(batch: Batch) -> Tensor:
        return embedder(batch.images, batch.camids, batch.viewids)

    def features(name: str, samples: Sequence[Sample]) -> Tensor:
        own = [samples[row] for row in own_share(len(samples))]
        loader = build.build_test_loader(config, own, fabric)
        with report.counting(f"features of {name}", len(own)) as count:
            found = extract(embed, batches(loader), fabric.device, count)
        return all_shares(found, len(samples), fabric.device)

    q_feats = features("query", splits.query)
    g_feats = features("gallery", splits.gallery) if splits.gallery else q_feats[:0]
    rows = {sample: row for row, sample in enumerate(splits.query)}
    parts = {name: np.array([rows[sample] for sample in part]) for name, part in splits.parts.items()}
    return FeatureSet(
        splits.name,
        splits.query,
        splits.gallery,
        q_feats,
        g_feats,
        splits.protocol,
        splits.notes,
        parts,
        embedder.spec,
    )


def rank(features: FeatureSet, config: Config, report: LiveReport) -> Outcome:
    """Rank features under their protocol, and re-rank where TEST.RE_RANKING says so."""
    with report.tracking("ranking") as progress:
        return evaluate_protocol(features, rerank=build.build_rerank(config), progress=progress)


def rank_and_write(
    folder: Path, features: FeatureSet, config: Config, report: LiveReport, weight: str
) -> dict[str, Any]:
    """Rank features and write metrics.json, queries.csv, ranklist.png and report.html."""
    height, width = config.input.size_test
    return write_results(
        folder,
        features,
        rank(features, config, report),
        report,
        weight=weight,
        false_accept_rates=config.test.far,
        picture=(128, max(1, round(128 * width / height))),
    )


def _trained_on(tree: dict[str, Any], source: str) -> str:
    """The origin of the first dataset trained on, by the configuration of the training."""
    datasets = from_tree(tree, source).datasets
    return build.origin(datasets, build.entries(datasets.names)[0])

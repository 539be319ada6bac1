"""Testing a checkpoint: metrics.json, and a picture of the worst queries."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric import Fabric
from rich.console import Console
from torch import Tensor

from svllreid import build
from svllreid.config import Config, from_tree, load_config
from svllreid.data.dataset import batches
from svllreid.errors import ConfigError, DatasetError
from svllreid.evaluation.features import extract
from svllreid.evaluation.protocols import Outcome, evaluate_split, nearest_of
from svllreid.files import write_json
from svllreid.jobs.preparing import Options, check_cameras, load_splits, without_foreign_sie
from svllreid.models.checkpoint import CheckpointInfo, read_info
from svllreid.models.reid import SVLLReID
from svllreid.training.report import LiveReport, logging_to
from svllreid.types import UNKNOWN, Batch, Sample, Splits
from svllreid.viz.ranklist import draw_ranklist

logger = logging.getLogger(__name__)

WORST_IN_PICTURE, OTHERS_IN_PICTURE = 6, 4


def test_config(config_file: Path | None, overrides: Sequence[str]) -> Config:
    """A test's configuration: of the file, or without one of the checkpoint that TEST.WEIGHT names."""
    config = load_config(config_file, overrides)
    if not config.test.weight:
        raise ConfigError("no checkpoint to test: set TEST.WEIGHT, for example TEST.WEIGHT outputs/run/ViT-B-16_60.pth")
    info = None if config_file else read_info(Path(config.test.weight).expanduser())
    if info is None:
        return config
    # The run's own folder holds the run's own numbers.
    return from_tree({**info.config, "OUTPUT_DIR": ""}, config.test.weight, overrides)


def run_test(config: Config, options: Options = Options(), console: Console | None = None) -> dict[str, Any]:
    """Test the checkpoint TEST.WEIGHT: write metrics.json and the picture, return the metrics.

    Without OUTPUT_DIR they go to a folder `test_<dataset>` beside the checkpoint.

    Raises: ReidError: anything the user can mend.
    """
    path = Path(config.test.weight).expanduser()
    console = console or Console(stderr=True)
    with logging_to(None, console), LiveReport(console) as report:
        model, config, info = build.load_trained(path, config)
        fabric = build.build_fabric(config, options.device)
        splits = load_splits(config, options, report)
        for name, split in (("query", splits.query), ("gallery", splits.gallery)):
            if not split:
                raise DatasetError(
                    f"{splits.name} in {config.datasets.root_dir} has an empty {name} split; nothing to test"
                )
        config, notes = without_foreign_sie(config, splits, _trained_on(info) or splits.name.split("+"))
        for note in (*splits.notes, *notes):
            logger.info("%s: %s", splits.name, note)
        check_cameras(config, splits, model.num_cameras, model.num_views)
        model.sie_camera, model.sie_view = config.model.sie_camera, config.model.sie_view
        folder = Path(config.output_dir).expanduser() if config.output_dir else path.parent / f"test_{splits.name}"
        return report_test(model, config, splits, fabric, report, folder, path)


def evaluate(
    model: SVLLReID, config: Config, splits: Splits, fabric: Fabric, report: LiveReport
) -> tuple[Outcome, Tensor, Tensor]:
    """Metrics of a model on query and gallery, and the features behind them."""
    model.to(fabric.device).eval()

    def embed(batch: Batch) -> Tensor:
        with fabric.autocast():
            return model.embed(
                batch.images,
                batch.camids,
                batch.viewids,
                after_neck=config.test.neck_feat == "after",
                normalize=config.test.feat_norm == "yes",
            )

    def features(name: str, samples: Sequence[Sample]) -> Tensor:
        loader = build.build_test_loader(config, samples, fabric)
        with report.counting(f"features of {name}", len(samples)) as count:
            return extract(embed, batches(loader), fabric.device, count)

    q_feats, g_feats = features("query", splits.query), features("gallery", splits.gallery)
    rerank = build.build_rerank(config)
    outcome = evaluate_split(q_feats, g_feats, splits.query, splits.gallery, splits.protocol, rerank=rerank)
    return outcome, q_feats, g_feats


def report_test(
    model: SVLLReID, config: Config, splits: Splits, fabric: Fabric, report: LiveReport, folder: Path, weight: Path
) -> dict[str, Any]:
    """Evaluate, then write metrics.json and ranklist.png."""
    outcome, q_feats, g_feats = evaluate(model, config, splits, fabric, report)
    metrics = {**outcome.metrics, "dataset": splits.name, "weight": str(weight)}
    write_json(folder / "metrics.json", metrics)
    precision = outcome.ranking.average_precisions
    rows = rows_of_picture(precision)
    neighbours = nearest_of(rows, q_feats, g_feats, splits.query, splits.gallery, splits.protocol)
    draw_ranklist(
        folder / "ranklist.png",
        [splits.query[row] for row in rows],
        splits.gallery,
        neighbours.tolist(),
        [_caption(splits.query[row], precision[row], int(outcome.ranking.first_match_ranks[row])) for row in rows],
        f"{splits.name}, {headline(metrics)}: the {WORST_IN_PICTURE} worst queries, then better ones",
        _picture_size(config),
    )
    logger.info("%s", headline(metrics))
    logger.info("numbers: %s", folder / "metrics.json")
    logger.info("picture: %s", folder / "ranklist.png")
    return metrics


def rows_of_picture(precision: np.ndarray) -> list[int]:
    """The worst queries, then some spread evenly over the others up to the best; NaN is not counted."""
    ordered = [int(row) for row in np.argsort(precision, kind="stable") if not np.isnan(precision[row])]
    worst, others = ordered[:WORST_IN_PICTURE], ordered[WORST_IN_PICTURE:]
    step = len(others) / OTHERS_IN_PICTURE
    spread = [others[int((i + 1) * step) - 1] for i in range(OTHERS_IN_PICTURE)] if step >= 1 else others
    return worst + spread


def headline(metrics: dict[str, Any]) -> str:
    """The numbers people ask for, in percent."""
    return f"mAP {100 * metrics['mAP']:.1f} %, rank-1 {100 * metrics['rank1']:.1f} %"


def _trained_on(info: CheckpointInfo | None) -> tuple[str, ...] | None:
    if info is None:
        return None
    names = info.config["DATASETS"]["NAMES"]
    return (names,) if isinstance(names, str) else tuple(names)


def _picture_size(config: Config) -> tuple[int, int]:
    height, width = config.input.size_test
    return 128, max(1, round(128 * width / height))


def _caption(query: Sample, precision: float, first: int) -> str:
    camera = "" if query.camid == UNKNOWN else f"camera {query.camid + 1}, "
    return f"{query.pid}, {camera}AP {100 * precision:.0f} %, first match at rank {first}"

"""What a test leaves behind: metrics.json, a line per query, a picture, and a page with curves and rank lists."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svllreid.data.images import open_image
from svllreid.errors import ImageError
from svllreid.evaluation.analysis import Analysis
from svllreid.evaluation.camera_pairs import CameraPairs
from svllreid.evaluation.confidence import bootstrap
from svllreid.evaluation.features import FeatureSet
from svllreid.evaluation.protocols import Outcome, Part
from svllreid.evaluation.verification import OperatingPoint, Verification
from svllreid.files import UNENCODABLE, atomic_write, write_json
from svllreid.jobs.result_page import PICTURE, ShownQueries, caption, headline, result_page
from svllreid.viz.page import write_page
from svllreid.viz.ranklist import draw_ranklist

logger = logging.getLogger(__name__)


def write_results(
    folder: Path,
    features: FeatureSet,
    outcome: Outcome,
    *,
    weight: str,
    false_accept_rates: Sequence[float],
    picture: tuple[int, int] = (128, 64),
) -> dict[str, Any]:
    """Write metrics.json, queries.csv, ranklist.png and report.html.

    Args:
        folder: where they go.
        features: the images that were ranked.
        outcome: their metrics, analysed.
        weight: the model's file, or where the features come from.
        false_accept_rates: for which the threshold is reported.
        picture: height and width of the images in the picture.
    Returns: what metrics.json holds.
    """
    first, analyses = outcome.parts[0], [_analysis(features.name, part) for part in outcome.parts]
    summaries = {
        part.name: _summary(analysis.verification, false_accept_rates)
        for part, analysis in zip(outcome.parts, analyses, strict=True)
    }
    cameras = analyses[0].cameras
    metrics = {**outcome.metrics, **summaries[first.name]}
    metrics["camera_pairs"] = [] if cameras is None else _pairs(cameras)
    if first.name:
        metrics["parts"] = {name: block | summaries[name] for name, block in metrics["parts"].items()}
    else:
        ends = bootstrap(first.ranking, first.trial.arguments["q_pids"])
        metrics["confidence"] = {name: list(interval) for name, interval in ends.items()}
    notes = list(features.notes)
    if metrics["re_ranking"]:
        notes.append("verification, camera pairs and the images shown are by plain distance, before re-ranking")
    if features.spec is None:
        notes.append("nothing says which model the features are of")
    embedding = None if features.spec is None else features.spec.to_dict()
    metrics |= {"dataset": features.name, "weight": weight, "embedding": embedding, "notes": notes}
    # The numbers first: they stay, whatever becomes of the pictures.
    write_json(folder / "metrics.json", metrics)
    _write_queries(folder / "queries.csv", outcome.parts)
    title = f"{features.name}, {headline(metrics)}"
    logger.info("%s", title)
    logger.info("numbers: %s", folder / "metrics.json")
    shown = ShownQueries.of(first)
    _draw(folder / "ranklist.png", first, shown, title + ", re-ranked" * metrics["re_ranking"], picture)
    page = result_page(title, metrics, first, shown, analyses[0])
    write_page(folder / "report.html", page, open_image, picture)
    logger.info("report: %s", folder / "report.html")
    return metrics


def _analysis(dataset: str, part: Part) -> Analysis:
    """The analysis of a part; the log says where its pairs could not be verified."""
    if part.analysis is None:
        raise ValueError("write_results needs an outcome that was analysed")
    if part.analysis.verification is None:
        logger.info("%s: no verification: %s", dataset, part.analysis.no_verification)
    return part.analysis


def _summary(found: Verification | None, false_accept_rates: Sequence[float]) -> dict[str, Any]:
    """The entry of metrics.json about verification."""
    if found is None:
        return {"verification": None}

    def point(at: OperatingPoint) -> dict[str, float | None]:
        return {"threshold": at.threshold, "tar": at.true_accept_rate, "far": at.false_accept_rate}

    return {
        "verification": {
            "AUC": found.auc,
            "EER": found.equal_error_rate,
            "at_EER": point(found.at_equal_error()),
            "at_FAR": {f"{rate:g}": point(found.at(rate)) for rate in false_accept_rates},
            "distance": "euclidean",
            "num_genuine": found.num_genuine,
            "num_impostor": found.num_impostor,
        }
    }


def _pairs(cameras: CameraPairs) -> list[dict[str, Any]]:
    """A line for each pair of cameras (zero-based) with a match between them."""
    return [
        {
            "query_camid": int(cameras.q_cameras[i]),
            "gallery_camid": int(cameras.g_cameras[j]),
            "mAP": float(cameras.mean_ap[i, j]),
            "rank1": float(cameras.rank1[i, j]),
            "num_queries": int(cameras.num_queries[i, j]),
        }
        for i, j in zip(*cameras.num_queries.nonzero(), strict=True)
    ]


def _write_queries(path: Path, parts: Sequence[Part]) -> None:
    """A line per query: its file, identity, camera, and how it was ranked; empty numbers where it is not counted."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=UNENCODABLE) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["part", "query", "pid", "camid", "AP", "INP", "first_match_rank", "num_matches"])
        for part in parts:
            found = part.ranking
            columns = (found.average_precisions, found.inverse_precisions, found.first_match_ranks, found.num_matches)
            for sample, *numbers in zip(part.trial.query, *(column.tolist() for column in columns), strict=True):
                if not numbers[-1]:
                    numbers = ["", "", "", 0]
                writer.writerow([part.name, sample.path, sample.pid, sample.camid, *numbers])


def _draw(path: Path, part: Part, shown: ShownQueries, title: str, size: tuple[int, int]) -> None:
    """The picture of the worst queries, where the images are still there."""
    query, gallery = part.trial.query, part.trial.gallery
    captions = [caption(part, row) for row in shown.picture]
    title = f"{title}: the {PICTURE[0]} worst queries, then better ones (images by plain distance)"
    chosen = [query[row] for row in shown.picture]
    nearest = [shown.nearest[row] for row in shown.picture]
    try:
        draw_ranklist(path, chosen, gallery, nearest, captions, title, open_image, size)
    except ImageError as error:
        logger.info("no picture: %s", error)
        return
    logger.info("picture: %s", path)

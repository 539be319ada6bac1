"""The files of a test: metrics.json, a table of the queries, a picture, and a page with curves and ranked images."""

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

_LONGEST_NAME = 60  # letters of an identity's name in the picture, where a caption has one line


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
        folder: the folder of the files.
        features: the images that were ranked.
        outcome: the result of `evaluate_protocol` with `analysed=True`.
        weight: the file of the model or of the saved features.
        false_accept_rates: the rates for which thresholds are reported.
        picture: height and width of the images in the picture and on the page.
    Returns: the content of metrics.json.
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
        notes.append("it is unknown which model the features are of")
    embedding = None if features.spec is None else features.spec.to_dict()
    metrics |= {"dataset": features.name, "weight": weight, "embedding": embedding, "notes": notes}
    # The numbers are written first, so that a failing picture does not lose them.
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
    """The analysis of a part; if its pairs could not be verified, the log says why."""
    if part.analysis is None:
        raise ValueError("write_results needs an outcome that was analysed")
    if part.analysis.verification is None:
        logger.info("%s: no verification: %s", dataset, part.analysis.no_verification)
    return part.analysis


def _summary(verification: Verification | None, false_accept_rates: Sequence[float]) -> dict[str, Any]:
    """The entry `verification` of metrics.json."""
    if verification is None:
        return {"verification": None}

    def point(at: OperatingPoint) -> dict[str, float | None]:
        return {"threshold": at.threshold, "tar": at.true_accept_rate, "far": at.false_accept_rate}

    return {
        "verification": {
            "AUC": verification.auc,
            "EER": verification.equal_error_rate,
            "at_EER": point(verification.at_equal_error()),
            "at_FAR": {f"{rate:g}": point(verification.at(rate)) for rate in false_accept_rates},
            "distance": "euclidean",
            "num_genuine": verification.num_genuine,
            "num_impostor": verification.num_impostor,
        }
    }


def _pairs(cameras: CameraPairs) -> list[dict[str, Any]]:
    """An entry for each pair of cameras (counted from 0) with a match between them."""
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
    """Write a line for each query: file, identity, camera, and measures, which are empty where it is not counted."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=UNENCODABLE) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["part", "query", "pid", "camid", "AP", "INP", "first_match_rank", "num_matches"])
        for part in parts:
            ranking = part.ranking
            columns = (
                ranking.average_precisions,
                ranking.inverse_precisions,
                ranking.first_match_ranks,
                ranking.num_matches,
            )
            for sample, *numbers in zip(part.trial.query, *(column.tolist() for column in columns), strict=True):
                if not numbers[-1]:
                    numbers = ["", "", "", 0]
                writer.writerow([part.name, sample.path, sample.pid, sample.camid, *numbers])


def _draw(path: Path, part: Part, shown: ShownQueries, title: str, size: tuple[int, int]) -> None:
    """Draw the worst queries with their nearest images; if an image cannot be read, the log says so instead.

    A picture of an earlier test would not show what the other files say, so it is removed then.
    """
    query, gallery = part.trial.query, part.trial.gallery
    captions = [caption(part, row, _LONGEST_NAME) for row in shown.picture]
    title = f"{title}: the {PICTURE[0]} worst queries, then better ones (images by plain distance)"
    chosen = [query[row] for row in shown.picture]
    nearest = [shown.nearest[row] for row in shown.picture]
    try:
        draw_ranklist(path, chosen, gallery, nearest, captions, title, open_image, size)
    except ImageError as error:
        path.unlink(missing_ok=True)
        logger.info("no picture: %s", error)
        return
    logger.info("picture: %s", path)

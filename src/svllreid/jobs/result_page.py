"""The content of the page about a test: texts, curves, tables and images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from svllreid.evaluation.analysis import Analysis
from svllreid.evaluation.camera_pairs import CameraPairs
from svllreid.evaluation.protocols import Part
from svllreid.evaluation.ranking.measures import MEASURES
from svllreid.evaluation.verification import Verification
from svllreid.types import CAMID_NOTE, UNKNOWN
from svllreid.viz.page import Chart, Matrix, Number, Page, RankedQuery, Table

# How many of the worst queries are shown, and how many of the others: on the page, and in the picture.
PAGE, PICTURE = (20, 5), (6, 4)


@dataclass(frozen=True)
class ShownQueries:
    """The queries that are shown, with their nearest gallery images.

    Args:
        page, picture: numbers of the queries on the page and in the picture, counted from 0.
        nearest: for each of them the numbers of its ten nearest gallery images; -1 where there are no more.
    """

    page: list[int]
    picture: list[int]
    nearest: dict[int, list[int]]

    @classmethod
    def of(cls, part: Part) -> ShownQueries:
        """Choose the worst queries of a part and some others, and find the nearest images of all of them."""
        page, picture = (pick_rows(part.ranking.average_precisions, *counts) for counts in (PAGE, PICTURE))
        rows = sorted({*page, *picture})
        return cls(page, picture, dict(zip(rows, part.trial.nearest(rows).tolist(), strict=True)))


def result_page(title: str, metrics: dict[str, Any], part: Part, shown: ShownQueries, analysis: Analysis) -> Page:
    """The content of the page.

    Args:
        title: the title, with the main numbers.
        metrics: the content of metrics.json.
        part: the first part of the test, whose curves are drawn.
        shown: the queries that are shown.
        analysis: the analysis of the part.
    """
    subtitle = (
        f"{metrics['num_queries']} queries ({metrics['num_valid_queries']} with a match), {metrics['num_gallery']} "
        f"gallery images; protocol {metrics['protocol']}{', re-ranked' if metrics['re_ranking'] else ''}; "
        f"{metrics['weight']}"
    )
    notes = list(metrics["notes"])
    if part.name:
        notes.append(
            f"Numbers and pictures are of the part {part.name}; pictures and curves of the first of ten draws."
        )
    return Page(
        title=title,
        subtitle=subtitle,
        numbers=_numbers(metrics),
        notes=notes,
        charts=_charts(part, analysis.verification),
        tables=_tables(metrics),
        matrices=[] if analysis.cameras is None else [_matrix(analysis.cameras)],
        ranked=[_ranked(part, row, shown.nearest[row]) for row in shown.page],
    )


def _numbers(metrics: dict[str, Any]) -> list[Number]:
    numbers = []
    for name in MEASURES:
        detail = ""
        if "confidence" in metrics:
            low, high = metrics["confidence"][name]
            detail = f"95 %: {100 * low:.1f} to {100 * high:.1f}"
        elif "deviation" in metrics:
            detail = f"± {100 * metrics['deviation'][name]:.1f} over ten draws"
        numbers.append(Number(name.replace("rank", "rank-"), percent(metrics[name]), detail))
    if metrics["verification"]:
        numbers.append(Number("EER", percent(metrics["verification"]["EER"]), "equal error rate"))
    return numbers


def _charts(part: Part, verification: Verification | None) -> list[Chart]:
    cmc = part.ranking.cmc
    points = np.stack([np.arange(1, len(cmc) + 1), cmc], axis=1)
    precision = np.sort(part.ranking.average_precisions[part.ranking.num_matches > 0])
    spread = np.stack([precision, np.arange(1, len(precision) + 1) / len(precision)], axis=1)
    charts = [
        Chart("CMC", "rank", "queries with a match so far", {"CMC": points}, (1, *range(10, len(cmc) + 1, 10))),
        Chart("Average precision of the queries", "at most", "share of queries", {"AP": spread}),
    ]
    if verification is not None:
        decades = min(6, max(1, math.ceil(math.log10(verification.num_impostor))))
        ticks = [10.0**power for power in range(-decades, 1)]
        curve = {"ROC": verification.roc}
        charts.append(Chart("ROC over all pairs", "false-accept rate", "true-accept rate", curve, ticks, log_x=True))
    return charts


def _tables(metrics: dict[str, Any]) -> list[Table]:
    tables = []
    if "parts" in metrics:
        rows = [
            [name, str(block["num_queries"]), str(block["num_gallery"])]
            + [f"{100 * block[key]:.1f} ± {100 * block['deviation'][key]:.1f}" for key in MEASURES]
            for name, block in metrics["parts"].items()
        ]
        tables.append(
            Table("Parts", ["part", "queries", "gallery", *MEASURES], rows, "Mean ± deviation of ten draws, %.")
        )
    if metrics["verification"]:
        verification = metrics["verification"]
        points = {f"false-accept rate {rate}": point for rate, point in verification["at_FAR"].items()}
        points["equal error"] = verification["at_EER"]
        rows = [
            [
                name,
                "none" if at["threshold"] is None else f"{at['threshold']:.4f}",
                percent(at["tar"]),
                f"{at['far']:.2e}",
            ]
            for name, at in points.items()
        ]
        note = (
            f"Two images are taken for the same one where the Euclidean distance of their features is at most the "
            f"threshold. {verification['num_genuine']} pairs are of one identity, {verification['num_impostor']} of "
            f"two; area below the ROC {verification['AUC']:.4f}."
        )
        tables.append(
            Table("Are these two the same?", ["wanted", "threshold", "true-accept rate", "found"], rows, note)
        )
    return tables


def _matrix(cameras: CameraPairs) -> Matrix:
    rows, columns = (
        [f"{side} {camera}" for camera in camids]
        for side, camids in (("query camid", cameras.q_cameras), ("gallery camid", cameras.g_cameras))
    )
    note = f"mAP, %, of the queries of one camera searched among the images of one other camera alone; {CAMID_NOTE}."
    return Matrix("Camera pairs", rows, columns, cameras.mean_ap, note)


def _ranked(part: Part, row: int, columns: list[int]) -> RankedQuery:
    query = part.trial.query[row]
    nearest = [part.trial.gallery[column] for column in columns if column >= 0]
    return RankedQuery(caption(part, row), query, [(sample, sample.pid == query.pid) for sample in nearest])


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


def headline(metrics: dict[str, Any]) -> str:
    """The main numbers, mAP and rank-1, as text."""
    return f"mAP {percent(metrics['mAP'])}, rank-1 {percent(metrics['rank1'])}"


def pick_rows(precision: np.ndarray, worst: int, others: int) -> list[int]:
    """The numbers of the worst queries, then of some others, evenly spread up to the best; NaN is left out.

    Args:
        precision: (Nq,) average precision of each query.
        worst: how many of the worst.
        others: how many of the others.
    Example:
        >>> pick_rows(np.array([0.9, 0.1, np.nan, 0.5, 0.3, 1.0]), worst=2, others=1)
        [1, 4, 5]
    """
    ordered = [int(row) for row in np.argsort(precision, kind="stable") if not np.isnan(precision[row])]
    first, rest = ordered[:worst], ordered[worst:]
    step = len(rest) / others
    spread = [rest[int((i + 1) * step) - 1] for i in range(others)] if step >= 1 else rest
    return first + spread


def caption(part: Part, row: int, longest: int | None = None) -> str:
    """The caption of a query: identity, camera, average precision, and rank of the first match.

    Args:
        part: the part of the query.
        row: the query, counted from 0.
        longest: letters of an identity's name, on one line, before it is cut; None leaves names as they are.
    """
    sample, ranking = part.trial.query[row], part.ranking
    camera = "" if sample.camid == UNKNOWN else f"camid {sample.camid}, "
    precision = 100 * ranking.average_precisions[row]
    name = str(sample.pid)
    if longest is not None and len(name := " ".join(name.split())) > longest:
        name = f"{name[:longest]}..."
    return f"{name}, {camera}AP {precision:.0f} %, first match at rank {ranking.first_match_ranks[row]}"

"""Tables and plots of the ablation: mean, deviation, and the difference of the same seed from another row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ablation_rows import BASELINE, BATCH_64, CLIPREID, MAIN, ONLY_LANGUAGE, ONLY_VISION, SVLLREID, SWEEPS

Line = dict[str, Any]
READING = """\
After a mean stands its deviation over seeds. "95 % over test people": the mean ends of the runs' own intervals, from a
bootstrap of the test people. "beside": mean difference of the same seeds, with half its 95 % interval (Student's t over
seeds); * marks those that leave zero out, as one in twenty would by chance where there is no difference."""
# 97.5 % quantile of Student's t with 1 to 9 degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Estimate:
    """Mean of a row over its seeds, deviation, and the paired difference from another row with its 95 % interval."""

    values: dict[int, float]
    other: dict[int, float] | None = None

    @property
    def paired(self) -> np.ndarray:
        """Difference of each seed that both rows have."""
        other = self.other or {}
        return np.array([value - other[seed] for seed, value in self.values.items() if seed in other])

    def text(self) -> str:
        """Mean and deviation in percent."""
        values = 100 * np.array(list(self.values.values()))
        return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" if len(values) > 1 else f"{values.mean():.1f}"

    def difference(self) -> tuple[float, float]:
        """Mean paired difference and half of its 95 % interval, in points; nan where no two seeds are paired."""
        paired = 100 * self.paired
        if len(paired) < 2:
            return float("nan"), float("nan")
        quantile = STUDENT[min(len(paired) - 2, len(STUDENT) - 1)]
        return float(paired.mean()), quantile * float(paired.std(ddof=1)) / len(paired) ** 0.5

    def difference_text(self) -> str:
        """The difference, marked where its interval leaves zero out."""
        mean, half = self.difference()
        return "" if np.isnan(mean) else f"{mean:+.1f} ± {half:.1f}" + " *" * (abs(mean) > half)


def estimates(lines: Sequence[Line], data: str, row: str, other: str | None, measure: str) -> Estimate:
    """A row's values of a measure by seed, beside those of another row."""

    def values(name: str | None) -> dict[int, float]:
        chosen = [line for line in lines if (line["set"], line["row"]) == (data, name)]
        return {int(line["seed"]): float(line[measure] or "nan") for line in chosen}  # empty: what has no interval

    return Estimate(values(row), values(other) if other and other != row else None)


def table(lines: Sequence[Line], data: str, rows: Sequence[str], other: str) -> list[str]:
    """Lines of a Markdown table; the differences are from row `other`."""
    head = f"| {data} | seeds | mAP, % | 95 % over test people | rank-1, % | mAP, points beside '{other}' |"
    found = [head, "|---|---|---|---|---|---|"]
    for row in rows:
        map_, rank1 = (estimates(lines, data, row, other, measure) for measure in ("mAP", "rank1"))
        low, high = (
            100 * np.mean([*estimates(lines, data, row, None, f"mAP_{end}").values.values()] or [np.nan])
            for end in ("low", "high")
        )
        if map_.values:
            interval = "" if np.isnan(low) else f"{low:.0f} to {high:.0f}"
            cells = (row, str(len(map_.values)), map_.text(), interval, rank1.text(), map_.difference_text())
            found.append(f"| {' | '.join(cells)} |")
    more = any((line["set"], line["row"]) == (data, row) for line in lines for row in rows if row != other)
    return found if more else []


def similarity_table(lines: Sequence[Line], data: str) -> list[str]:
    """Mean cosine between the prompts of two identities after stage 1."""
    found = [f"| {data}: stage 1 | seeds | mean cosine between two people's prompts |", "|---|---|---|"]
    for row in (CLIPREID, ONLY_LANGUAGE, *SWEEPS[ONLY_LANGUAGE]):
        if row == BATCH_64:  # stage 1 is the same
            continue
        values = [float(line["prompt_similarity"]) for line in lines if (line["set"], line["row"]) == (data, row)]
        if values:
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            found.append(f"| {row} | {len(values)} | {np.mean(values):.3f}{spread} |")
    return found if len(found) > 2 else []


def of_the_same_seeds(lines: Sequence[Line], sweep: Iterable[str], other: str) -> list[Line]:
    """Without the runs of `other` whose seeds no row of the sweep has: its mean would be of other seeds."""
    seeds = {line["seed"] for line in lines if line["row"] in sweep}
    return [line for line in lines if line["row"] != other or line["seed"] in seeds]


def report(lines: Sequence[Line], folder: Path) -> str:
    """All tables as Markdown; plots go to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(line["set"] for line in lines))
    blocks = [table(lines, data, list(MAIN), CLIPREID) for data in names]
    for data in names:
        for other, sweep in SWEEPS.items():
            blocks += [table(of_the_same_seeds(lines, sweep, other), data, [other, *sweep], other)]
        blocks += [similarity_table(lines, data)]
    blocks += [[READING]]
    plot_rows(lines, names, folder / "ablation_main.png")
    plot_differences(lines, names, folder / "ablation_differences.png")
    return "\n\n".join("\n".join(block) for block in blocks if block)


def plot_rows(lines: Sequence[Line], names: Sequence[str], file: Path) -> None:
    """mAP of the main rows: every seed a dot, the mean a bar."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(names), figsize=(5.2 * len(names), 3.2), squeeze=False, sharey=True)
    for panel, data in zip(panels[0], names, strict=True):
        for place, row in enumerate(reversed(MAIN)):
            values = 100 * np.array(list(estimates(lines, data, row, None, "mAP").values.values()))
            if len(values):
                panel.barh(place, values.mean(), color="#9ecae1")
                panel.plot(values, np.full(len(values), place), "o", color="#08306b", markersize=4)
        panel.set_yticks(range(len(MAIN)), list(reversed(MAIN)))
        panel.set_xlabel("mAP, %")
        panel.set_title(data)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def plot_differences(lines: Sequence[Line], names: Sequence[str], file: Path) -> None:
    """Paired differences with their 95 % intervals, main rows from CLIP-ReID and sweeps from the row they change."""
    from matplotlib import pyplot

    pairs = [(row, CLIPREID) for row in (BASELINE, ONLY_LANGUAGE, ONLY_VISION, SVLLREID)]
    pairs += [(row, other) for other, sweep in SWEEPS.items() for row in sweep]
    figure, panel = pyplot.subplots(figsize=(7.5, 0.32 * len(pairs) + 1))
    for shift, data in zip(np.linspace(-0.18, 0.18, len(names)), names, strict=True):
        found = [estimates(lines, data, row, other, "mAP").difference() for row, other in pairs]
        means, halves = np.array(found).T
        there = ~np.isnan(halves)
        places = -np.arange(len(pairs)) + shift
        panel.errorbar(means[there], places[there], xerr=halves[there], fmt="o", markersize=4, capsize=2, label=data)
    panel.axvline(0, color="grey", linewidth=0.8)
    panel.set_yticks(-np.arange(len(pairs)), [row for row, _ in pairs])
    panel.set_xlabel("mAP, points beside the row it changes")
    panel.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)

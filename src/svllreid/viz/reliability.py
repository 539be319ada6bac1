"""A picture of how well probabilities agree with what was seen: a panel for each kind of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from svllreid.errors import EvaluationError
from svllreid.files import atomic_write

MOST_PANELS, _COLUMNS = 16, 4


class Binned(Protocol):
    """What a panel shows, see `svllreid.calibration.record.Reliability`."""

    genuine: int
    impostor: int
    brier: float
    calibration_error: float
    weights: tuple[float, ...]
    probabilities: tuple[float | None, ...]
    shares: tuple[float | None, ...]


def check_plot(path: Path) -> None:
    """Check that a plot of this name can be drawn.

    Raises: EvaluationError: another ending than .png, or Matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise EvaluationError(f"{path}: the plot is written as .png; give such a name")
    _figure_class(path)


def draw_reliability(path: Path, title: str, panels: Sequence[tuple[str, Binned]]) -> int:
    """Draw how often pairs were genuine against the probability that was said of them, and write a PNG file.

    On the diagonal, what was said is what was seen. The area of a point is the share of the pairs in its bin.

    Args:
        path: the file.
        title: of the picture.
        panels: name and bins of each kind of pairs; the first MOST_PANELS are drawn.
    Returns: the number of panels drawn.
    Raises: EvaluationError: Matplotlib is not installed, or there is nothing to draw. OutputError: the file cannot be
        written.
    """
    figure_class = _figure_class(path)
    if not panels:
        raise EvaluationError(f"{path}: too few identities to hold some out, so there is no reliability to draw")
    drawn = panels[:MOST_PANELS]
    columns = min(_COLUMNS, len(drawn))
    lines = -(-len(drawn) // columns)
    figure = figure_class(figsize=(3.2 * columns, 3.4 * lines + 0.4), layout="constrained")
    left_out = f"\nthe first {len(drawn)} of {len(panels)} kinds of pairs" if len(drawn) < len(panels) else ""
    figure.suptitle(
        f"{title}\nprobability against share of genuine pairs\nof identities held out{left_out}", fontsize=9
    )
    for number, (name, bins) in enumerate(drawn):
        _draw_panel(figure.add_subplot(lines, columns, number + 1), name, bins)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return len(drawn)


def _draw_panel(axes: Any, name: str, bins: Binned) -> None:
    filled = [
        (said, seen, weight)
        for said, seen, weight in zip(bins.probabilities, bins.shares, bins.weights, strict=True)
        if said is not None and seen is not None
    ]
    said, seen, weights = zip(*filled, strict=True)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    axes.plot(said, seen, color="#2b6cb0", linewidth=1)
    axes.scatter(said, seen, s=[10 + 200 * weight for weight in weights], color="#2b6cb0", alpha=0.6, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="probability", ylabel="share of genuine pairs")
    axes.set_title(
        f"{name}: {bins.genuine:,} genuine, {bins.impostor:,} impostor\nBrier {bins.brier:.3f}, calibration error "
        f"{bins.calibration_error:.3f}",
        fontsize=7,
    )


def _figure_class(path: Path) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EvaluationError(
            f"{path}: the plot needs Matplotlib; install it with: pip install 'svllreid[viz]', or leave it out"
        ) from None
    return Figure

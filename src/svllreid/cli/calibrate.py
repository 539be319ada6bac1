"""The command `svllreid calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svllreid.cli.options import BatchSize, Device, Precision, SkipUnreadable

if TYPE_CHECKING:
    from svllreid.calibration.calibration import Calibration


def calibrate(
    source: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="Labelled images: a table, a folder, or a file of features.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A .json file to write.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="The trained model; features need none.")
    ] = None,
    method: Annotated[str, typer.Option(help="How the probability is fitted: logistic or isotonic.")] = "logistic",
    mean_of: Annotated[
        int,
        typer.Option(
            "--mean-of",
            min=1,
            metavar="N",
            help="Compare means of N images of a person, for verify with folders of N images.",
        ),
    ] = 1,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Take only images of this split; may be given again.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="A .png file: how reliable the probabilities are.")
    ] = None,
    device: Device = "auto",
    precision: Precision = None,
    batch_size: BatchSize = None,
    cameras: Annotated[
        bool,
        typer.Option("--cameras", help="Cameras are numbered as in the training set: add what was learned of them."),
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the pairs and identities that are drawn.")] = 0,
) -> None:
    """Measure what distances mean: thresholds by false-accept rate, and probabilities, from labelled images.

    Use people that the model was not trained on. All pairs of images are compared, across and within cameras. A rate is
    stated only where there are enough pairs of different people: ten divided by the rate.

    Example: `svllreid calibrate --weights outputs/mine/ViT-B-16_60.pth labelled.csv -o calibration.json`

    Example: `svllreid calibrate features.parquet -o calibration.json --plot reliability.png`
    """
    from svllreid.jobs.calibrating import CalibrateOptions, calibrate_to_file

    splits = tuple(split or ())
    options = CalibrateOptions(device, precision, batch_size, cameras, skip_unreadable, splits, method, seed, mean_of)
    typer.echo("\n".join(lines_of(calibrate_to_file(source, weights, output, options, plot=plot))))


def lines_of(calibration: Calibration) -> list[str]:
    """The thresholds of each kind of pairs as lines of text, also the rates for which there is none."""
    from svllreid.calibration.calibration import why_unstated

    record = calibration.record
    compared = "images" if record.mean_of == 1 else f"means of {record.mean_of} images"
    lines = [f"{record.dataset}: {record.images:,} {compared}, {record.identities:,} identities"]
    for kind, group in record.pairs.items():
        lines += ["", f"{kind} pairs: {group.genuine:,} genuine, {group.impostor:,} impostor"]
        lines.append("  false-accept rate  threshold  measured  95 % over identities  true accepts")
        for point in group.points:
            if point.threshold is None or point.false_accepts is None or point.true_accept_rate is None:
                lines.append(f"  {point.rate:<17g}  {why_unstated(point, group.impostor)}")
                continue
            low, high = point.identity_interval or point.interval or (0.0, 1.0)
            measured, interval = f"{point.false_accepts / group.impostor:.2g}", f"{low:.2g} to {high:.2g}"
            lines.append(
                f"  {point.rate:<17g}  {point.threshold:<9.4f}  {measured:<8}  {interval:<20}  "
                f"{100 * point.true_accept_rate:.1f} %"
            )
        if (judged := group.reliability) is None:
            lines.append(f"  probability, {group.probability.method}: too few identities to hold some out and judge it")
        else:
            lines.append(
                f"  probability, {group.probability.method}, of identities held out: Brier score {judged.brier:.3f}, "
                f"calibration error {judged.calibration_error:.3f}"
            )
    return lines

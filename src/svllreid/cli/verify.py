"""The command `svllreid verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svllreid.cli.options import Device, Precision

if TYPE_CHECKING:
    from svllreid.jobs.verifying import Verdict


def verify(
    first: Annotated[Path, typer.Argument(metavar="A", help="An image, or a folder with images of one identity.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other image or folder.")],
    weights: Annotated[Path, typer.Option("--weights", metavar="FILE", help="The trained model.")],
    calibration: Annotated[
        Path | None, typer.Option("--calibration", metavar="FILE", help="What `svllreid calibrate` wrote for it.")
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(
            "--far", help="False-accept rate of the decision; if not given, 0.001 or the next larger supported one."
        ),
    ] = None,
    prior: Annotated[
        float, typer.Option(help="Share of pairs that show one identity, before they are seen; for the probability.")
    ] = 0.5,
    camids: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--camids", metavar="A B", help="Cameras of the two, which choose the thresholds across or within cameras."
        ),
    ] = None,
    cameras: Annotated[
        bool,
        typer.Option("--cameras", help="Cameras are numbered as in the training set: add what was learned of them."),
    ] = False,
    device: Device = "auto",
    precision: Precision = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Say whether two images show the same identity: distance, probability, decision, and how often it is wrong.

    Of a folder the features of all images are averaged and brought to length 1 again. Without a calibration there is
    only a distance. The exit code is 0 for both decisions.

    Example: `svllreid verify a.jpg b.jpg --weights model.pth --calibration calibration.json --far 0.001`
    """
    from svllreid.errors import EvaluationError
    from svllreid.jobs.verifying import VerifyOptions, verify_images

    if calibration is None and (far is not None or prior != VerifyOptions.prior):
        raise EvaluationError("--far and --prior say which decision of a --calibration is meant; give that too")
    options = VerifyOptions(device, precision, camids, cameras, far, prior)
    verdict = verify_images(first, second, weights, calibration, options)
    typer.echo(json.dumps(asdict(verdict), indent=1) if as_json else "\n".join(lines_of(verdict)))


def lines_of(verdict: Verdict) -> list[str]:
    """The answer as lines of text."""
    lines = [f"distance     {verdict.distance:.4f}"]
    if verdict.same is None or verdict.interval is None:
        return [
            *lines,
            "decision     none: it needs a --calibration, which `svllreid calibrate` measures on labelled images",
        ]
    low, high = verdict.interval
    return [
        *lines,
        f"probability  {verdict.probability:.3f} that it is the same (prior {verdict.prior:g})",
        f"decision     {'same' if verdict.same else 'different'}: the threshold is {verdict.threshold:.4f}",
        f"false-accept rate {verdict.false_accept_rate:g} for {verdict.pairs} pairs: measured "
        f"{verdict.measured_rate:.2g}, 95 % interval {low:.2g} to {high:.2g}",
    ]

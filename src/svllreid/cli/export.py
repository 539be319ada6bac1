"""The command `svllreid export`: a checkpoint as a file of another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from svllreid.cli.options import ConfigFile, Overrides
from svllreid.cli.tables import plain_console, print_whole

if TYPE_CHECKING:
    from svllreid.jobs.exporting import Measured


def export(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="The checkpoint.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help=".onnx, .xml (OpenVINO), .pt2 or .ts (TorchScript).")
    ],
    overrides: Overrides = None,
    config_file: ConfigFile = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format", help="onnx, openvino, torch-export or torchscript; without it, that of the file's suffix."
        ),
    ] = None,
    pixels: Annotated[str, typer.Option("--input", help="Pixels as uint8 (0 to 255) or float (0 to 1).")] = "uint8",
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave normalisation to the caller: the input is float, normalised already.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="FOLDER", help="Compare the features of these images too.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Write 8-bit weights: faster, smaller, a little less exact.")] = (
        False
    ),
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="FOLDER",
            help="Images as the model will see them, which fix the ranges of int8 (static instead of dynamic).",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--for", metavar="boxmot", help="Write the ONNX file that BoxMOT's trackers take.")
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Also rank the test sets of the configuration with each model.")
    ] = False,
) -> None:
    """Write a checkpoint for ONNX Runtime, OpenVINO or PyTorch without this package, and compare the features.

    Unless the features of random images, and of those in `--images`, agree with PyTorch's (cosine 0.9999), nothing is
    written. With `--int8` a table compares both. `svllreid.Encoder.load` takes .onnx and .xml files.

    Example: `svllreid export outputs/people/tiny_10.pth -o people.onnx --int8`

    Example: `svllreid export outputs/people/tiny_10.pth -o tracker.onnx --for boxmot`
    """
    from svllreid.errors import ExportError
    from svllreid.jobs.exporting import ExportOptions, run_export, run_export_for_boxmot

    if target is not None:
        if target != "boxmot":
            raise ExportError(f"--for {target}: unknown; boxmot is the one that is known")
        if kind or raw or images or int8 or calibrate or evaluate or pixels != "uint8":
            raise ExportError("--for boxmot decides format and input; leave out the other options")
        cosine = run_export_for_boxmot(weights, output, config_file, overrides or ())
        typer.echo(f"written: {output} (smallest cosine with PyTorch {cosine:.6f})")
        return
    if pixels not in ("uint8", "float"):
        raise ExportError(f"--input {pixels}: unknown; give uint8 or float")
    options = ExportOptions(kind, "normalised" if raw else pixels, images, int8, calibrate, evaluate)
    _print(run_export(weights, output, config_file, overrides or (), options))
    typer.echo(f"written: {output}")


def _print(rows: list[Measured]) -> None:
    """Prints a row for each model."""
    from svllreid.jobs.exporting import SPEED_BATCH

    names = list(rows[0].ranking)
    columns = ["cosine, min", "mean", "of images", "images/s", "MB"]
    columns += [f"{name} {measure}" for name in names for measure in ("mAP", "rank-1")]
    caption = f"cosine: with the features of PyTorch; images/s: in batches of {SPEED_BATCH}"
    table = Table("model", *columns, caption=caption)
    for column in table.columns:
        column.justify = "left" if column.header == "model" else "right"
    for row in rows:
        same = row.agreement
        cells = [f"{same.minimum:.6f}", f"{same.mean:.6f}", str(same.images), f"{row.images_per_second:.1f}"]
        cells.append(f"{row.size / 1e6:.1f}")
        cells += [f"{100 * value:.1f} %" for name in names for value in row.ranking[name]]
        table.add_row(row.name, *cells)
    print_whole(plain_console(), table)

"""The commands `svllreid data synth`, `check` and `describe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svllreid.cli.tables import plain_console
from svllreid.files import user_path

if TYPE_CHECKING:
    from svllreid.data.duplicates import Duplicates
    from svllreid.types import Splits

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        # Written out, because importing the records would slow down every command's help.
        help="market1501, dukemtmc, occ_duke, msmt17, veri, VehicleID, cuhk03_labelled, cuhk03_detected, or your own "
        "data: folder, manifest.",
    ),
]
Root = Annotated[
    Path,
    typer.Argument(
        metavar="ROOT", help="As DATASETS.ROOT_DIR: the folder that holds the dataset; for manifest, the file."
    ),
]

app = typer.Typer(no_args_is_help=True, help="Make and inspect datasets.")


@app.callback()
def data() -> None:
    """Make and inspect datasets."""


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the dataset is written; must not hold one yet.")],
    identities: Annotated[int, typer.Option(min=2, help="People to train, and as many others to test.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    cameras: Annotated[int, typer.Option(min=2, help="Cameras that see everyone.")] = 4,
    alike: Annotated[int, typer.Option(min=1, help="People who share each outfit; more are harder to tell apart.")] = 1,
    hue: Annotated[
        float,
        typer.Option(
            min=0, max=180, help="Degrees by which cameras turn colours: at 90, the red of one is another's green."
        ),
    ] = 0,
) -> None:
    """Render synthetic people seen by several cameras, in Market-1501's layout.

    Example: `svllreid data synth data/synthetic --identities 32 --seed 0`
    """
    from svllreid.rendered import synthesize

    root = synthesize(folder, identities=identities, seed=seed, cameras=cameras, alike=alike, hue=hue)
    typer.echo(f"{root}: {identities} people to train, {identities} others to test")


@app.command()
def check(
    name: Name,
    root: Root,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image too, and name the first ones that cannot be decoded.")
    ] = False,
) -> None:
    """Compare a copy's counts with those that the dataset's authors state, and name likely causes of differences.

    Pictures that the dataset holds twice, as copies, links or under two identities, are counted too.

    Differences are not an error: the exit code is 0 if the dataset can be read.

    Example: `svllreid data check market1501 ~/data --decode`
    """
    from svllreid.cli.counts import print_comparisons, print_duplicates, print_faults, print_line
    from svllreid.data.readers import compare, dataset

    console = plain_console()
    splits = dataset(name).read(root)
    print_comparisons(console, compare(dataset(name), splits))
    for note in splits.notes:
        print_line(console, f"note: {note}")
    print_duplicates(console, _duplicates(splits))
    if decode:
        from svllreid.data.decodable import keep_decodable
        from svllreid.data.describe import unique_images
        from svllreid.runtime.progress import LiveReport

        samples = unique_images(splits)
        with LiveReport(plain_console(stderr=True)) as report, report.counting("decoding", len(samples)) as count:
            _, faults = keep_decodable(samples, count)
        print_faults(console, faults, len(samples))


def _duplicates(splits: Splits) -> Duplicates:
    """Finds pictures that the dataset holds twice, with a progress bar, since every file may have to be read."""
    from svllreid.data.describe import unique_images
    from svllreid.data.duplicates import find_duplicates
    from svllreid.runtime.progress import LiveReport

    images = len(unique_images(splits))
    with LiveReport(plain_console(stderr=True)) as report, report.counting("comparing images", images) as count:
        return find_duplicates(splits, count)


@app.command()
def describe(
    name: Name,
    root: Root,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw some identities, each with images of its cameras.")
    ] = None,
) -> None:
    """Count identities, images, cameras and duplicates of each split, and measure image sizes.

    Example: `svllreid data describe market1501 ~/data --sheet market.png`
    """
    from svllreid.cli.counts import print_description, print_duplicates, print_line
    from svllreid.data.describe import describe as describe_splits
    from svllreid.data.images import open_image
    from svllreid.data.readers import dataset
    from svllreid.types import CAMID_NOTE
    from svllreid.viz.sheet import choose, draw_sheet

    console = plain_console()
    splits = dataset(name).read(root)
    if splits.protocol == "vehicleid-10":
        print_line(console, "vehicleid-10: query holds all test images, of which each draw takes its gallery")
    print_description(console, describe_splits(splits))
    for note in splits.notes:
        print_line(console, f"note: {note}")
    print_duplicates(console, _duplicates(splits))
    if sheet is not None:
        rows = choose(splits)
        kind = "training" if splits.train else "test"
        title = f"{name}: {len(rows)} {kind} identities, drawn at random; {CAMID_NOTE}"
        draw_sheet(user_path(sheet), rows, title, open_image)
        print_line(console, f"sheet: {user_path(sheet)}")

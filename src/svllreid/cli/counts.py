"""The output of `svllreid data check` and `svllreid data describe`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from svllreid.data.describe import Description, Sizes, Spread
from svllreid.data.duplicates import Duplicates, name_pairs
from svllreid.data.readers.statistics import Comparison, by_cause
from svllreid.types import CAMID_NOTE, UNKNOWN, Pid

NOTHING = "–"
NAMED = 3


def print_line(console: Console, text: str) -> None:
    """Prints a line without markup or line breaks, so that paths in it can be copied."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Prints the counts of a copy next to the published ones, then the likely causes of differences."""
    if not any(comparison.published for comparison in comparisons):
        table = Table("count", *_numbers("found"))
        for comparison in comparisons:
            table.add_row(comparison.what, str(comparison.count))
        console.print(table)
        print_line(console, "own data: no published counts to compare with")
        return
    table = Table("count", *_numbers("found", "published"), "verdict")
    for comparison in comparisons:
        verdict = "differs" if comparison.cause else "ok" if comparison.published else NOTHING
        table.add_row(comparison.what, str(comparison.count), comparison.published or NOTHING, verdict)
    console.print(table)
    for cause, behind in by_cause(comparison for comparison in comparisons if comparison.cause).items():
        counts = ", ".join(comparison.what for comparison in behind)
        print_line(console, f"{counts} differ; likely cause: {cause}")


def print_duplicates(console: Console, duplicates: Duplicates) -> None:
    """Prints how many pictures a dataset holds more than once; one line if there are none."""
    lines = [f"{count} {name} images repeat another {name} image" for name, count in duplicates.within.items() if count]
    lines += [f"{count} {b} images are in {a} too" for (a, b), count in duplicates.between.items() if count]
    if duplicates.contradictions:
        more = "; ..." if duplicates.contradictions > len(duplicates.examples) else ""
        named = name_pairs(duplicates.examples)
        lines.append(f"{duplicates.contradictions} pictures stand under two identities: {named}{more}")
    for line in lines or ["no picture stands twice"]:
        print_line(console, f"same picture: {line}" if lines else line)


def print_faults(console: Console, faults: Sequence[str], images: int) -> None:
    """Prints how many images cannot be decoded, and the first of them."""
    if not faults:
        print_line(console, f"all {images} images can be decoded")
        return
    shown = f"the first {NAMED}:" if len(faults) > NAMED else "they are:"
    print_line(console, f"{len(faults)} of {images} images cannot be decoded; {shown}")
    for fault in faults[:NAMED]:
        print_line(console, fault)


def print_description(console: Console, description: Description) -> None:
    """Prints counts of each split, identities in both train and test, images per camera, and image sizes."""
    splits = description.splits
    columns = _numbers("identities", "images", "cameras", "min", "median", "mean", "max")
    table = Table("split", *columns, title="identities (min to max: images per identity)")
    for name, counts in splits.items():
        numbers = (counts.identities, counts.images, counts.cameras)
        table.add_row(name, *map(str, numbers), *_words(counts.per_identity))
    console.print(table)
    for name, counts in splits.items():
        if counts.distractors:
            print_line(console, f"{name}: {counts.distractors} of the images are distractors, of no identity")
    print_line(console, f"identities shared by train and test: {_shared(description.shared)}")
    table = Table("camid", *_numbers(*splits), title="images per camera")
    for camid in sorted({camid for counts in splits.values() for camid in counts.by_camera}):
        images = (str(counts.by_camera.get(camid, 0)) for counts in splits.values())
        table.add_row("unknown" if camid == UNKNOWN else str(camid), *images)
    console.print(table)
    if any(counts.cameras for counts in splits.values()):
        print_line(console, CAMID_NOTE)
    _print_sizes(console, description.sizes)


def _print_sizes(console: Console, sizes: Sizes) -> None:
    table = Table("pixels", *_numbers("min", "median", "mean", "max"), title="image sizes")
    table.add_row("height", *_words(sizes.heights))
    table.add_row("width", *_words(sizes.widths))
    console.print(table)
    frequent = ", ".join(f"{height} x {width} ({count} images)" for (height, width), count in sizes.frequent)
    print_line(console, f"most frequent, height x width: {frequent}")
    sample = f"a random sample of {sizes.read} of the {sizes.images} images"
    which = f"all {sizes.images} images" if sizes.read == sizes.images else sample
    print_line(console, f"sizes from the file headers of {which}")


def _shared(pids: Sequence[Pid] | None) -> str:
    if pids is None:
        return "numbered from 0 in each, so the numbers cannot tell"
    if not pids:
        return "0"
    more = ", ..." if len(pids) > NAMED else ""
    return f"{len(pids)} (should be 0): {', '.join(map(str, pids[:NAMED]))}{more}"


def _numbers(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def _words(spread: Spread | None) -> tuple[str, ...]:
    if spread is None:
        return (NOTHING,) * 4
    return str(spread.low), f"{spread.median:g}", f"{spread.mean:.1f}", str(spread.high)

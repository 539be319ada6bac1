"""Published counts of the datasets, and how a copy differs from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from svllreid.types import UNKNOWN, Splits

Range = tuple[int, int]
OTHER = "another dataset in the same layout, or a part of this one"


@dataclass(frozen=True, slots=True)
class Published:
    """The counts of one dataset; None where it has no such fixed count.

    Args:
        train_ids, query, gallery, cameras: exact counts.
        train_images: lowest and highest count published.
        test_ids: the numbers of identities of its test lists, where it has several.
    """

    train_ids: int
    train_images: Range
    query: int | None
    gallery: int | None
    cameras: int
    test_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """A count that is not the published one.

    Args:
        what: `training images`, `cameras` and so on.
        found: the count of this copy.
        published: the published count or counts, in words.
        cause: what most likely lies behind it.
    """

    what: str
    found: int
    published: str
    cause: str

    def __str__(self) -> str:
        return f"{self.what}: {self.found} (published {self.published}); likely cause: {self.cause}"


STATISTICS: dict[str, Published] = {
    "market1501": Published(751, (12_936, 12_936), 3_368, 15_913, 6),
    "dukemtmc": Published(702, (16_522, 16_522), 2_228, 17_661, 8),
    "occ_duke": Published(702, (15_618, 15_618), 2_210, 17_661, 8),
    "msmt17": Published(1_041, (32_621, 32_621), 11_659, 82_161, 15),
    "veri": Published(576, (37_746, 37_781), 1_678, 11_579, 20),
    # Published as "about 113,000": all that rounds to it.
    "VehicleID": Published(13_164, (112_500, 113_499), None, None, 1, test_ids=(800, 1600, 2400)),
}


def check(name: str, splits: Splits) -> list[Difference]:
    """How a copy's counts differ from the published ones.

    Args:
        name: the reader's name; a user's own data (folder, manifest) has no published counts.
        splits: what the reader made of it.
    Returns: the differences, none where the copy is whole.
    """
    published = STATISTICS.get(name)
    if published is None:
        return []
    samples = splits.train + splits.query + splits.gallery
    exact: list[tuple[str, int, int | None]] = [
        ("training identities", len({sample.pid for sample in splits.train}), published.train_ids),
        ("query images", len(splits.query), published.query),
        ("gallery images", len(splits.gallery), published.gallery),
        ("cameras", len({sample.camid for sample in samples} - {UNKNOWN}), published.cameras),
    ]
    counts: list[tuple[str, int, Range]] = [(what, found, (n, n)) for what, found, n in exact if n is not None]
    counts.insert(1, ("training images", len(splits.train), published.train_images))
    wrong = [(what, found, wanted) for what, found, wanted in counts if not wanted[0] <= found <= wanted[1]]
    if len(wrong) == len(counts):
        return [Difference(what, found, _words(wanted), OTHER) for what, found, wanted in wrong]
    differences = [
        Difference(what, found, _words(wanted), _cause(name, splits, what, found < wanted[0]))
        for what, found, wanted in wrong
    ]
    return differences + list(_test_list(splits, published))


def summarise(differences: Iterable[Difference]) -> tuple[str, ...]:
    """One line for each cause, with the counts behind it."""
    causes: dict[str, list[str]] = {}
    for difference in differences:
        counts = f"{difference.what} {difference.found} (published {difference.published})"
        causes.setdefault(difference.cause, []).append(counts)
    return tuple(f"{', '.join(counts)}; likely cause: {cause}" for cause, counts in causes.items())


def _test_list(splits: Splits, published: Published) -> Iterator[Difference]:
    found = len({sample.pid for sample in splits.query})
    if published.test_ids and found not in published.test_ids:
        sizes = ", ".join(map(str, published.test_ids))
        yield Difference("test identities", found, sizes, "a test list cut short or edited")


def _words(wanted: Range) -> str:
    low, high = wanted
    return str(low) if low == high else f"{low} to {high}"


def _cause(name: str, splits: Splits, what: str, fewer: bool) -> str:
    if name == "market1501" and what == "gallery images" and fewer and all(s.pid != 0 for s in splits.gallery):
        return "the distractors (identity 0) were removed from bounding_box_test"
    if name == "veri" and what in ("query images", "gallery images") and fewer:
        return "a partial unzip or copy, or test images without viewpoint label left out (see the notes)"
    if name == "msmt17" and any("V2" in note for note in splits.notes):
        return "a mixture of MSMT17 V1 and V2 (see the notes), or a partial unzip or copy"
    if fewer:
        return "a partial unzip or copy"
    return "another version of the dataset, or copies and other images among its own"

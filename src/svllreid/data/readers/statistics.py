"""Published counts of the datasets, and how a copy differs from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from svllreid.types import UNKNOWN, Splits

Range = tuple[int, int]
OTHER = "another dataset in the same layout, or a part of this one"


@dataclass(frozen=True, slots=True)
class Published:
    """The counts of one dataset; None where it has no such fixed count.

    Args:
        train_ids, query, gallery, cameras: exact counts.
        train_images: lowest and highest count published.
        test_ids: identities of each part of the test, where it has parts.
    """

    train_ids: int
    train_images: Range
    query: int | None
    gallery: int | None
    cameras: int
    test_ids: Mapping[str, int] = field(default_factory=dict)

    def accepted(self) -> dict[str, Range]:
        """The range that each count must lie in; counts that are not fixed are left out."""
        exact = {
            "training identities": self.train_ids,
            "query images": self.query,
            "gallery images": self.gallery,
            "cameras": self.cameras,
            **{_test_ids(part): count for part, count in self.test_ids.items()},
        }
        ranges = {what: (count, count) for what, count in exact.items() if count is not None}
        return ranges | {"training images": self.train_images}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A count of a copy beside the published one.

    Args:
        what: `training images`, `cameras` and so on.
        found: the count of this copy.
        published: the published count or counts, in words; empty where there is no fixed one.
        cause: what most likely lies behind a difference; empty where there is none.
    """

    what: str
    found: int
    published: str
    cause: str

    def __str__(self) -> str:
        published = f" (published {self.published})" if self.published else ""
        cause = f"; likely cause: {self.cause}" if self.cause else ""
        return f"{self.what}: {self.found}{published}{cause}"


STATISTICS: dict[str, Published] = {
    "market1501": Published(751, (12_936, 12_936), 3_368, 15_913, 6),
    "dukemtmc": Published(702, (16_522, 16_522), 2_228, 17_661, 8),
    "occ_duke": Published(702, (15_618, 15_618), 2_210, 17_661, 8),
    "msmt17": Published(1_041, (32_621, 32_621), 11_659, 82_161, 15),
    "veri": Published(576, (37_746, 37_781), 1_678, 11_579, 20),
    # Published as "about 113,000": all that rounds to it.
    "VehicleID": Published(
        13_164, (112_500, 113_499), None, None, 1, test_ids={"small": 800, "medium": 1600, "large": 2400}
    ),
}


def compare(name: str, splits: Splits) -> list[Comparison]:
    """A copy's counts beside the published ones.

    Args:
        name: the reader's name; a user's own data (folder, manifest) has no published counts.
        splits: what the reader made of it.
    Returns: every count, those that differ with their cause.
    """
    samples = splits.train + splits.query + splits.gallery
    found = {
        "training identities": len({sample.pid for sample in splits.train}),
        "training images": len(splits.train),
        "query images": len(splits.query),
        "gallery images": len(splits.gallery),
        "cameras": len({sample.camid for sample in samples} - {UNKNOWN}),
        **{
            _test_ids(part): len({s.pid for s in tested})
            for part, tested in (splits.parts or {"": splits.query}).items()
        },
    }
    published = STATISTICS[name].accepted() if name in STATISTICS else {}
    accepted = {what: published[what] for what in found if what in published}
    wrong = [what for what, (low, high) in accepted.items() if not low <= found[what] <= high]
    causes = {what: _cause(name, splits, what, found[what] < accepted[what][0]) for what in wrong}
    if len(wrong) == len(accepted):
        causes = dict.fromkeys(wrong, OTHER)
    return [Comparison(what, count, _words(accepted.get(what)), causes.get(what, "")) for what, count in found.items()]


def check(name: str, splits: Splits) -> list[Comparison]:
    """How a copy's counts differ from the published ones: the comparisons with a cause, none where it is whole."""
    return [comparison for comparison in compare(name, splits) if comparison.cause]


def by_cause(differences: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """The differences behind each cause."""
    causes: dict[str, list[Comparison]] = {}
    for difference in differences:
        causes.setdefault(difference.cause, []).append(difference)
    return causes


def summarise(differences: Iterable[Comparison]) -> tuple[str, ...]:
    """One line for each cause, with the counts behind it."""
    return tuple(
        ", ".join(f"{difference.what} {difference.found} (published {difference.published})" for difference in behind)
        + f"; likely cause: {cause}"
        for cause, behind in by_cause(differences).items()
    )


def _test_ids(part: str) -> str:
    return f"test identities, {part}" if part else "test identities"


def _words(accepted: Range | None) -> str:
    if accepted is None:
        return ""
    low, high = accepted
    return str(low) if low == high else f"{low} to {high}"


def _cause(name: str, splits: Splits, what: str, fewer: bool) -> str:
    if what.startswith("test identities"):
        return "a test list cut short or edited"
    if (
        name == "market1501"
        and what == "gallery images"
        and fewer
        and all(s.pid not in (0, "0") for s in splits.gallery)
    ):
        return "the distractors (identity 0) were removed from bounding_box_test"
    if name == "veri" and what in ("query images", "gallery images") and fewer:
        return "a partial unzip or copy, or test images without viewpoint label left out (see the notes)"
    if name == "msmt17" and any("V2" in note for note in splits.notes):
        return "a mixture of MSMT17 V1 and V2 (see the notes), or a partial unzip or copy"
    if fewer:
        return "a partial unzip or copy"
    return "another version of the dataset, or copies and other images among its own"

"""Published counts of the datasets, and how a copy differs from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from svllreid.data.readers.record import Dataset, Published, Range
from svllreid.types import UNKNOWN, Splits

OTHER = "another dataset in the same layout, or a part of this one"


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


def compare(dataset: Dataset, splits: Splits) -> list[Comparison]:
    """A copy's counts beside the published ones.

    Args:
        dataset: its record; a user's own data (folder, manifest) has no published counts.
        splits: what its reader made of it.
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
    published = {} if dataset.published is None else _accepted(dataset.published)
    accepted = {what: published[what] for what in found if what in published}
    wrong = [what for what, (low, high) in accepted.items() if not low <= found[what] <= high]
    causes = {what: _cause(dataset, splits, what, found[what] < accepted[what][0]) for what in wrong}
    if len(wrong) == len(accepted):
        causes = dict.fromkeys(wrong, OTHER)
    return [Comparison(what, count, _words(accepted.get(what)), causes.get(what, "")) for what, count in found.items()]


def check(dataset: Dataset, splits: Splits) -> list[Comparison]:
    """How a copy's counts differ from the published ones: the comparisons with a cause, none where it is whole."""
    return [comparison for comparison in compare(dataset, splits) if comparison.cause]


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


def _accepted(published: Published) -> dict[str, Range]:
    """The range that each count must lie in; counts that are not fixed are left out."""
    exact = {
        "training identities": published.train_ids,
        "query images": published.query,
        "gallery images": published.gallery,
        "cameras": published.cameras,
        **{_test_ids(part): count for part, count in published.test_ids.items()},
    }
    ranges = {what: (count, count) for what, count in exact.items() if count is not None}
    return ranges | {"training images": published.train_images}


def _cause(dataset: Dataset, splits: Splits, what: str, fewer: bool) -> str:
    if what.startswith("test identities"):
        return "a test list cut short or edited"
    own = dataset.cause(splits, what, fewer)
    if own is not None:
        return own
    if fewer:
        return "a partial unzip or copy"
    return "another version of the dataset, or copies and other images among its own"

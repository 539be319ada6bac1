"""Comparing the counts of a user's copy of a dataset with the published counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from svllreid.data.readers.record import DatasetRecord, Published, Range
from svllreid.types import UNKNOWN, Splits

OTHER = "another dataset in the same layout, or a part of this one"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A count of the user's copy and the published count.

    Args:
        what: what is counted, such as `training images` or `cameras`.
        count: the count of this copy.
        published: the published count or range of counts, in words; empty if there is no fixed one.
        cause: the most likely cause of a difference; empty if the counts agree.
    """

    what: str
    count: int
    published: str
    cause: str

    def __str__(self) -> str:
        published = f" (published {self.published})" if self.published else ""
        cause = f"; likely cause: {self.cause}" if self.cause else ""
        return f"{self.what}: {self.count}{published}{cause}"


def compare(dataset: DatasetRecord, splits: Splits) -> list[Comparison]:
    """Compares all counts of a copy with the published ones.

    Args:
        dataset: the dataset's record; a user's own data (folder, manifest) has no published counts.
        splits: the copy, as its reader returns it.
    Returns: a comparison for every count.
    """
    samples = splits.train + splits.query + splits.gallery
    counts = {
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
    accepted = {what: published[what] for what in counts if what in published}
    wrong = [what for what, (low, high) in accepted.items() if not low <= counts[what] <= high]
    causes = {what: _cause(dataset, splits, what, counts[what] < accepted[what][0]) for what in wrong}
    if len(wrong) == len(accepted):
        causes = dict.fromkeys(wrong, OTHER)
    return [Comparison(what, count, _words(accepted.get(what)), causes.get(what, "")) for what, count in counts.items()]


def check(dataset: DatasetRecord, splits: Splits) -> list[Comparison]:
    """The counts of a copy that differ from the published ones; none if the copy is complete."""
    return [comparison for comparison in compare(dataset, splits) if comparison.cause]


def by_cause(differences: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """The differences that each cause explains."""
    causes: dict[str, list[Comparison]] = {}
    for difference in differences:
        causes.setdefault(difference.cause, []).append(difference)
    return causes


def summarise(differences: Iterable[Comparison]) -> tuple[str, ...]:
    """One line for each cause, with the counts that differ for it."""
    return tuple(
        ", ".join(f"{difference.what} {difference.count} (published {difference.published})" for difference in behind)
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
    """The range of each published count; counts that are not fixed are left out."""
    exact = {
        "training identities": published.train_ids,
        "query images": published.query,
        "gallery images": published.gallery,
        "cameras": published.cameras,
        **{_test_ids(part): count for part, count in published.test_ids.items()},
    }
    ranges = {what: (count, count) for what, count in exact.items() if count is not None}
    return ranges | {"training images": published.train_images}


def _cause(dataset: DatasetRecord, splits: Splits, what: str, fewer: bool) -> str:
    if what.startswith("test identities"):
        return "a test list cut short or edited"
    own = dataset.cause(splits, what, fewer)
    if own is not None:
        return own
    if fewer:
        return "a partial unzip or copy"
    return "another version of the dataset, or copies and other images among its own"

"""The records of datasets: what is known of each before its files are read. A reader's file holds its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from svllreid.types import PERSON, Pid, Splits

Range = tuple[int, int]
Cause = Callable[[Splits, str, bool], str | None]


@dataclass(frozen=True, slots=True)
class Published:
    """The counts that a dataset's authors state.

    Args:
        train_ids, cameras: exact counts of training identities and cameras.
        query, gallery: exact counts of images; None if the protocol draws them.
        train_images: the lowest and the highest published count of training images.
        test_ids: identities of each part of the test set, for a dataset with parts.
    """

    train_ids: int
    train_images: Range
    query: int | None
    gallery: int | None
    cameras: int
    test_ids: Mapping[str, int] = field(default_factory=dict)


def _no_cause(splits: Splits, what: str, fewer: bool) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset that a configuration can name.

    Args:
        name: what users call it.
        read: reads the splits below a folder; its keyword arguments are `options`.
        published: the counts that its authors state; None for a user's own data.
        noun: what the prompts call its images.
        options: the keyword arguments of `read`; `build` takes their values from the configuration.
        distractor: the pid of gallery images that belong to no identity; None if there are none.
        numbered_apart: whether identities are counted from 0 in train and again at test, so that equal numbers are
            different identities.
        sorted_when_published: whether the published code numbers the training identities in sorted order, as this
            package does. Only then do the prompts of a published stage-1 file belong to the same identities.
        cause: returns the most likely cause of a count that differs from the published one, or None to have a general
            one named. It is called with the splits, the name of the count, and whether the count is too small.
    """

    name: str
    read: Callable[..., Splits]
    published: Published | None
    noun: str = PERSON
    options: tuple[str, ...] = ()
    distractor: Pid | None = None
    numbered_apart: bool = False
    sorted_when_published: bool = True
    cause: Cause = _no_cause

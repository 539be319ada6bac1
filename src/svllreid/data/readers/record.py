"""What is known of a dataset before a file of it is read: one record a dataset, in the file of its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from svllreid.types import PERSON, Pid, Splits

Range = tuple[int, int]
Cause = Callable[[Splits, str, bool], str | None]


@dataclass(frozen=True, slots=True)
class Published:
    """The counts that a dataset's authors state; None where it has no such fixed count.

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


def _no_cause(splits: Splits, what: str, fewer: bool) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset that a configuration can name.

    Args:
        name: what users call it.
        read: reads the splits below a folder; its keyword arguments are `options`.
        published: the counts its authors state; None for a user's own data, which is known by what it lists.
        noun: what the prompts call its images.
        options: names of the keyword arguments of `read`, which `build` fills from the configuration.
        distractor: the identity of gallery images that show nobody in particular; None where there is none.
        numbered_apart: whether identities are counted from 0 in training and again at test, so that an equal number is
            another person.
        sorted_when_published: whether published code numbers the training identities in sorted order, as here, so that
            the prompts of a published stage-1 file belong to the same identities.
        cause: what most likely lies behind a count that differs from the published one. It is asked with the splits,
            the name of the count and whether it is too small, and answers None where the general causes apply.
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

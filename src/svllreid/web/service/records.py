"""What the service answers, as plain records that the JSON API and the pages show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from svllreid.gallery.crop import Crop
from svllreid.types import UNKNOWN

QueryKind = Literal["images", "words", "crop"]
Verdict = Literal["same", "different", "skip"]
Question = Literal["join", "part"]


@dataclass(frozen=True, slots=True)
class ShownCrop:
    """A crop as it is shown: everything that is known of it but where its file lies.

    Args:
        id: SHA-256 of its content; its picture is addressed by it.
        pid: its identity as text; None where it is unknown.
        camid: its camera; None where it is unknown.
        time: when it was taken, in seconds since 1970; None where that is unknown.
        tracklet: the name of its tracklet; may be empty.
        tags: its tags.
        added: when it was added to the gallery, in seconds since 1970.
    """

    id: str
    pid: str | None
    camid: int | None
    time: float | None
    tracklet: str
    tags: tuple[str, ...]
    added: float

    @classmethod
    def of(cls, crop: Crop) -> ShownCrop:
        """The crop of the gallery, without its path."""
        return cls(
            crop.id,
            None if crop.pid is None else str(crop.pid),
            None if crop.camid == UNKNOWN else crop.camid,
            crop.time,
            crop.tracklet,
            crop.tags,
            crop.added,
        )


@dataclass(frozen=True, slots=True)
class ShownHit:
    """A crop that a search found.

    Args:
        crop: the crop.
        distance: Euclidean distance to the query, smaller is nearer.
        probability: that it shows the query's identity; None without a calibration, and in searches by words.
        same: whether the calibration decides that it does; None likewise.
    """

    crop: ShownCrop
    distance: float
    probability: float | None
    same: bool | None


@dataclass(frozen=True, slots=True)
class Query:
    """A query that is kept for some time, so that its search has an address.

    Args:
        id: 32 hexadecimal digits that cannot be guessed.
        kind: `images`, `words`, or `crop`: a search that goes on from a crop of the gallery.
        words: the words; empty for the other kinds.
        crop_id: the crop; empty for the other kinds.
        pictures: number of pictures, addressed by their index from 0.
        created, expires: when it was kept and when it will be forgotten, in seconds since 1970.
    """

    id: str
    kind: QueryKind
    words: str
    crop_id: str
    pictures: int
    created: float
    expires: float


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How a kept query is searched for, and which crops may be hits.

    Args:
        k: number of hits, 1 to 200.
        camids, not_camids: only, or no, crops of these cameras.
        after, before: only crops taken at `after` or later, and before `before`: ISO 8601 (without a zone: UTC) or
            seconds since 1970. Empty: any.
        tags: only crops that have all of these tags.
        pids: only crops of these identities.
        combine: of several pictures, `mean` or `best`, see `svllreid.gallery.searching.SearchOptions`.
        group_by: `pid` or `tracklet`: only the nearest crop of each is a hit.
        rerank: re-rank the nearest crops (k-reciprocal).
        false_accept_rate: which threshold of the calibration decides; None: its usual one.
    """

    k: int = 24
    camids: tuple[int, ...] = ()
    not_camids: tuple[int, ...] = ()
    after: str = ""
    before: str = ""
    tags: tuple[str, ...] = ()
    pids: tuple[str, ...] = ()
    combine: Literal["mean", "best"] = "mean"
    group_by: Literal["pid", "tracklet"] | None = None
    rerank: bool = False
    false_accept_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found.

    Args:
        query: what was searched for.
        hits: the nearest crops, the best first, also those that the calibration calls different.
        nobody: True where the calibration says that no hit shows the query; None without a decision.
        threshold: the largest distance that counts as the same; None without a decision.
        false_accept_rate: the share of impostor pairs that the threshold accepts; None without a decision.
        note: what to know about the decision, as of a mean of several pictures; empty: nothing.
    """

    query: Query
    hits: tuple[ShownHit, ...]
    nobody: bool | None
    threshold: float | None
    false_accept_rate: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Facets:
    """What searches can be filtered by.

    Args:
        cameras: number of crops by camera, unknown ones left out.
        tags: number of crops by tag.
        first, last: the earliest and the latest time of a crop, in seconds since 1970; None where none is known.
        false_accept_rates: those that the calibration supports, largest first.
        words: whether the model understands words.
    """

    cameras: dict[int, int]
    tags: dict[str, int]
    first: float | None
    last: float | None
    false_accept_rates: tuple[float, ...]
    words: bool


@dataclass(frozen=True, slots=True)
class IdentitySummary:
    """An identity in a list.

    Args:
        pid: its name.
        crops: number of its crops.
        camids: its known cameras, sorted.
        first, last: its earliest and latest time, in seconds since 1970; None where none is known.
        cover: the id of a crop that stands for it.
    """

    pid: str
    crops: int
    camids: tuple[int, ...]
    first: float | None
    last: float | None
    cover: str


@dataclass(frozen=True, slots=True)
class Change:
    """A change of identities: a merge, a split, a new name, an answer of the review, or the undoing of one of these.

    Args:
        number: counts from 1; undo takes it.
        kind: `merge`, `split`, `rename`, `review` or `undo`.
        text: what was done, in a sentence.
        crops: how many crops got another identity.
        when: seconds since 1970.
        undone: whether it was undone.
        can_undo: whether it can be undone now, that is, it is the latest change that was not.
        pid: the identity that came of it; empty where there is none.
    """

    number: int
    kind: str
    text: str
    crops: int
    when: float
    undone: bool
    can_undo: bool
    pid: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two crops of which the review asks whether they show the same identity.

    Args:
        id: of the pair.
        question: `join`: they have different identities and lie near to each other; `part`: they have one identity and
            lie far apart.
        left, right: crops of either side: first the one that the question is about, then some more of its identity.
        distance: between the two first ones.
        probability: that they show the same identity; None without a calibration.
        done, left_to_do: number of pairs that were answered, and of those known that wait.
    """

    id: str
    question: Question
    left: tuple[ShownCrop, ...]
    right: tuple[ShownCrop, ...]
    distance: float
    probability: float | None
    done: int
    left_to_do: int


@dataclass(frozen=True, slots=True)
class AddJob:
    """Images that are being added.

    Args:
        id: of the job.
        state: `waiting`, `running`, `done` or `failed`.
        total, finished: number of images, and of those that were dealt with.
        added, present, skipped: images that were stored, that were there before, and that could not be used.
        reasons: why images were skipped, each with the number of the image, from 1.
        error: why the job failed; empty where it did not.
    """

    id: str
    state: Literal["waiting", "running", "done", "failed"]
    total: int
    finished: int
    added: int = 0
    present: int = 0
    skipped: int = 0
    reasons: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """Crops that would be removed.

    Args:
        count: how many there are.
        examples: some of them.
        confirmation: a token that removes exactly these crops within ten minutes; empty where there are none.
    """

    count: int
    examples: tuple[ShownCrop, ...]
    confirmation: str


@dataclass(frozen=True, slots=True)
class RemovalConditions:
    """Which crops are removed: those that meet all conditions that are given, at least one.

    Args:
        ids, pids, camids: one of these.
        tags: all of these.
        older_than: taken longer ago, such as 30d, 12h or 90m; without a time, added longer ago. Empty: any.
    """

    ids: tuple[str, ...] = ()
    pids: tuple[str, ...] = ()
    camids: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    older_than: str = ""


@dataclass(frozen=True, slots=True)
class CalibrationShown:
    """The calibration in use.

    Args:
        dataset: what it was measured on.
        thresholds: the largest distance that counts as the same, by false-accept rate.
        usual_rate: the false-accept rate of decisions that name none.
    """

    dataset: str
    thresholds: dict[float, float]
    usual_rate: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server accepts.

    Args:
        file_bytes: bytes of one picture.
        request_bytes: bytes of one request.
        pixels: pixels of one picture.
        query_pictures: pictures of one query.
        add_pictures: pictures that are added at once.
    """

    file_bytes: int = 20 << 20
    request_bytes: int = 64 << 20
    pixels: int = 40_000_000
    query_pictures: int = 8
    add_pictures: int = 200


@dataclass(frozen=True, slots=True)
class About:
    """The gallery, the model and the calibration in use.

    Args:
        crops, identities, unidentified: how many there are; the last counts crops without an identity.
        index: how searches are done.
        bytes: on disk; None for a server, which does not say.
        fingerprint, dim, precision: of the model.
        calibration: None where there is none.
        facets: what searches can be filtered by.
        limits: what the server accepts.
    """

    crops: int
    identities: int
    unidentified: int
    index: str
    bytes: int | None
    fingerprint: str
    dim: int
    precision: str
    calibration: CalibrationShown | None
    facets: Facets
    limits: Limits = field(default_factory=Limits)

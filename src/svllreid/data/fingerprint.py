"""What a dataset lists, in a digest that stays the same wherever the dataset lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from svllreid.types import Sample, Splits


def listings(splits: Splits) -> dict[str, str]:
    """The fingerprint of each split that has images; see `fingerprint`."""
    named = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
    return {name: fingerprint(samples) for name, samples in named.items() if samples}


def fingerprint(samples: Iterable[Sample]) -> str:
    """A digest of the images' paths below the folder that holds them all, their identities, cameras and viewpoints.

    Copying or moving the images changes nothing, nor does the place of the table that lists them, nor the order.
    """
    rows = [(sample.path.absolute().parts, sample) for sample in samples]
    above = _shared([parts[:-1] for parts, _ in rows])
    lines = sorted(
        f"{'/'.join(parts[above:])}\t{sample.pid}\t{sample.camid}\t{sample.viewid}\n" for parts, sample in rows
    )
    # Names in another encoding than the system's hold bytes that UTF-8 cannot.
    content = "".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(content).hexdigest()[:32]


def _shared(folders: Sequence[tuple[str, ...]]) -> int:
    """How many parts all folders begin with: as many as the first and the last in order."""
    first, last = min(folders, default=()), max(folders, default=())
    differing = (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return next(differing, min(len(first), len(last)))

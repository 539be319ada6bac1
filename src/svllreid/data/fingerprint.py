"""A digest of the files, identities and cameras of a dataset, which stays the same when the dataset is moved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from svllreid.types import Sample, Splits


def listings(splits: Splits) -> dict[str, str]:
    """The fingerprint of each split that has images; see `fingerprint`."""
    named = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
    return {name: fingerprint(samples) for name, samples in named.items() if samples}


def fingerprint(samples: Iterable[Sample]) -> str:
    """A digest of images' paths, identities, cameras and viewpoints; no pixels are read.

    Paths are taken relative to the deepest folder that holds all images. So the fingerprint stays the same when the
    images or the table that lists them are moved or copied, and in whatever order they are listed.

    >>> from pathlib import Path
    >>> here, there = (fingerprint([Sample(Path(root) / "anna" / "1.jpg", "anna")]) for root in ("/data", "/mnt/b"))
    >>> here == there
    True
    """
    rows = [(sample.path.absolute().parts, sample) for sample in samples]
    above = _num_common_parts([parts[:-1] for parts, _ in rows])
    lines = sorted(
        f"{'/'.join(parts[above:])}\t{sample.pid}\t{sample.camid}\t{sample.viewid}\n" for parts, sample in rows
    )
    # Names in another encoding than the system's hold bytes that UTF-8 cannot.
    content = "".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(content).hexdigest()[:32]


def _num_common_parts(folders: Sequence[tuple[str, ...]]) -> int:
    """How many leading parts all folders have in common: as many as the first and the last in sorted order."""
    first, last = min(folders, default=()), max(folders, default=())
    differing = (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return next(differing, min(len(first), len(last)))

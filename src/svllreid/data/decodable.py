"""Which images can be decoded: asked before training, so that a broken one does not end a long run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from svllreid.data.images import open_image
from svllreid.errors import ImageError
from svllreid.types import Sample


def keep_decodable(
    samples: Sequence[Sample], progress: Callable[[int], None] | None = None
) -> tuple[list[Sample], list[str]]:
    """Decodes every image once and leaves out those that cannot be decoded.

    Args:
        samples: images of a dataset.
        progress: called with 1 after each image.
    Returns: the samples whose images can be decoded, in their order, and an error message for each of the others.
    """
    kept, faults = [], []
    with ThreadPoolExecutor(min(len(samples) or 1, os.cpu_count() or 1)) as pool:  # decoding releases the GIL
        for sample, fault in zip(samples, pool.map(_fault, samples), strict=True):
            if fault is None:
                kept.append(sample)
            else:
                faults.append(fault)
            if progress is not None:
                progress(1)
    return kept, faults


def _fault(sample: Sample) -> str | None:
    """The error message of an image that cannot be decoded, None for one that can."""
    try:
        open_image(sample.path)
    except ImageError as error:
        return str(error)
    return None

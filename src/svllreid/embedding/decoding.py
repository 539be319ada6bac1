"""Images decoded in threads, ahead of the network that embeds them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

THREADS = min(32, os.cpu_count() or 1)
_AHEAD = 2  # batches that are decoded while one is embedded
_CHUNK = 16  # images that a thread takes at once


def decoded_batches(
    images: Iterable[Any], decode: Callable[[int, Any], Any], batch_size: int
) -> Iterator[tuple[int, list[Any]]]:
    """Decode images in threads and give them in their order, a batch at a time.

    At most three batches are in memory, whatever the length of `images`, which is read in the caller's thread.

    Args:
        images: read as they are needed.
        decode: called with an image's number, from 0, and the image; Pillow's decoders run beside each other.
        batch_size: images of a batch.
    Returns: the number of the batch's first image, and what `decode` returned for each.
    """
    numbered, start = enumerate(images), 0
    chunk = max(1, min(_CHUNK, batch_size // THREADS))

    def work(items: list[tuple[int, Any]]) -> list[Any]:
        return [decode(number, image) for number, image in items]

    with ThreadPoolExecutor(THREADS) as pool:
        queue: deque[list[Future[list[Any]]]] = deque()

        def submit() -> None:
            items = list(islice(numbered, batch_size))
            if items:
                queue.append([pool.submit(work, items[at : at + chunk]) for at in range(0, len(items), chunk)])

        try:
            for _ in range(_AHEAD):
                submit()
            while queue:
                batch = [item for future in queue.popleft() for item in future.result()]
                submit()
                yield start, batch
                start += len(batch)
        finally:  # where the caller stops early, nothing that waits is decoded any more
            for futures in queue:
                for future in futures:
                    future.cancel()

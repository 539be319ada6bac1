"""Pictures of many requests, embedded together: one thread collects those that wait and runs the network once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from svllreid.embedding.contract import Embedder, EmbeddingSpec
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.embedding.loop import check_finite, embed_batch
from svllreid.types import UNKNOWN, Batch
from svllreid.web.errors import Refusal

_WAIT = 0.004  # seconds that a first picture waits for others


class OneAtATime:
    """An embedder that one thread at a time runs, as not every runtime allows more.

    Args:
        embedder: the embedder.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.lock = embedder, threading.Lock()

    @property
    def device(self) -> torch.device:
        """See `Embedder`."""
        return self.embedder.device

    @property
    def dim(self) -> int:
        """See `Embedder`."""
        return self.embedder.dim

    @property
    def spec(self) -> EmbeddingSpec:
        """See `Embedder`."""
        return self.embedder.spec

    def __call__(self, images: Tensor, camids: Tensor, viewids: Tensor) -> Tensor:
        """Features of a batch, see `Embedder`."""
        with self.lock:
            return self.embedder(images, camids, viewids)


class BatchingEncoder:
    """Embeds the pictures of requests that come at the same time in one batch.

    Args:
        encoder: the model.
        limit: pictures that may wait; more are refused.
        observe: called with the number of pictures of each batch.
    """

    def __init__(
        self, encoder: FeatureEncoder, *, limit: int = 256, observe: Callable[[int], None] = lambda size: None
    ) -> None:
        self.encoder, self.limit, self.observe = encoder, limit, observe
        self.waiting: queue.SimpleQueue[tuple[Tensor, Future[np.ndarray]] | None] = queue.SimpleQueue()
        self.lock, self.number, self.closed = threading.Lock(), 0, False
        self.thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self.thread.start()

    def prepare(self, image: Image.Image) -> Tensor:
        """A picture, upright and RGB, as the small tensor that `encode` takes."""
        return self.encoder.resize(image)

    def encode(self, prepared: Sequence[Tensor]) -> np.ndarray:
        """Features (n, D) float32 of n prepared pictures.

        Raises: Refusal: too many pictures wait. EvaluationError: features are NaN or infinite.
        """
        futures = [Future[np.ndarray]() for _ in prepared]
        with self.lock:
            if self.closed or self.number + len(prepared) > self.limit:
                raise Refusal(503, "the server is busy; try again in a few seconds", 2)
            self.number += len(prepared)
            for picture, future in zip(prepared, futures, strict=True):
                self.waiting.put((picture, future))  # before `close` ends the thread, or not at all
        try:
            return np.stack([future.result() for future in futures])
        finally:
            with self.lock:
                self.number -= len(prepared)

    def close(self) -> None:
        """Embed what waits, and end."""
        with self.lock:
            self.closed = True
            self.waiting.put(None)
        self.thread.join()

    def _work(self) -> None:
        ending = False
        while not ending:
            first = self.waiting.get()
            if first is None:
                return
            batch = [first]
            while len(batch) < self.encoder.batch_size:
                try:
                    more = self.waiting.get(timeout=_WAIT)
                except queue.Empty:
                    break
                if more is None:
                    ending = True
                    break
                batch.append(more)
            self._embed(batch)

    def _embed(self, waiting: Sequence[tuple[Tensor, Future[Any]]]) -> None:
        """Gives each picture its features, or the error that came instead."""
        try:
            self.observe(len(waiting))
            pixels = torch.stack([image for image, _ in waiting])
            unknown = torch.full((len(waiting),), UNKNOWN)
            features = embed_batch(self.encoder.embedder, Batch(pixels, unknown, unknown, unknown))
            check_finite(features, torch.arange(len(waiting)), self.encoder.embedder)
        except Exception as error:
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), row in zip(waiting, features.numpy(), strict=True):
            future.set_result(row)

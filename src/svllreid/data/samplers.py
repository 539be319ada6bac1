"""Which images form the batches: P x K batches for stage 2, permuted features for stage 1."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from svllreid.errors import DatasetError

MAX_SEED = 2**63 - 1


class PKSampler(Sampler[list[tuple[int, int]]]):
    """P x K batches: K images of each of P identities. Each item of a batch is (index of the image, seed).

    Each epoch, the images of an identity are shuffled and cut into groups of K. What is left over is not used in this
    epoch; an identity with fewer than K images has one group, drawn with replacement. A batch takes one group from each
    of P identities, drawn at random among those that have groups left. The epoch ends when fewer than P have any.

    >>> sampler = PKSampler([0, 0, 1, 1, 2, 2], batch_size=4, num_instances=2, seed=0)  # six images of three people
    >>> [sorted(index for index, seed in batch) for batch in sampler]
    [[0, 1, 4, 5]]

    Args:
        labels: the label of every training image.
        batch_size: P x K, over all processes.
        num_instances: K.
        seed: decides every draw together with the epoch. The seed of an item is that of the image's augmentation.
        process_rank, processes: this process's number and how many train together. Each takes the images of
            P / processes identities of every batch.
    Raises: DatasetError: a batch needs more identities than there are, is not a multiple of K, or cannot be split
        evenly over the processes.
    Source: Hermans et al. 2017, arXiv:1703.07737.
    """

    def __init__(
        self,
        labels: Sequence[int],
        batch_size: int,
        num_instances: int,
        seed: int,
        process_rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.indices = _by_label(np.asarray(labels))
        self.num_instances = num_instances
        self.pids_per_batch, remainder = divmod(batch_size, num_instances)
        self.seed, self.process_rank, self.processes = seed, process_rank, processes
        self.epoch, self.skip, self.last = 0, 0, 0
        if len(self.indices) < 2:
            raise DatasetError(
                f"the training set has {len(self.indices)} identities, and the triplet loss compares at least two; add "
                "images of other identities"
            )
        if remainder or not self.pids_per_batch:
            raise DatasetError(
                f"a batch of {batch_size} images is not a multiple of {num_instances} images per identity; "
                "change the batch size or the images of an identity",
                settings=("batch size", "images of an identity"),
            )
        if self.pids_per_batch % processes:
            raise DatasetError(
                f"a batch of {self.pids_per_batch} identities cannot be split evenly over {processes} processes; make "
                f"the batch size a multiple of {processes * num_instances}",
                settings=("batch size",),
            )
        if self.pids_per_batch < 2 * processes:
            raise DatasetError(
                f"a batch of {batch_size} images holds one identity of {num_instances} for each process, and the "
                "triplet loss needs two; raise the batch size or lower the images of an identity",
                settings=("batch size", "images of an identity"),
            )
        if len(self.indices) < self.pids_per_batch:
            raise DatasetError(
                f"the training set has {len(self.indices)} identities, a batch needs {self.pids_per_batch}; lower "
                f"the batch size to at most {len(self.indices) * num_instances}, or add identities",
                settings=("batch size",),
            )

    def set_epoch(self, epoch: int, skip: int = 0, *, last: int | None = None) -> None:
        """Chooses what is iterated over next.

        Args:
            epoch: the first epoch.
            skip: its first batches that are left out.
            last: the last epoch, for batches of one epoch right after those of another; None: `epoch` alone.
        """
        self.epoch, self.skip, self.last = epoch, skip, epoch if last is None else last

    def __len__(self) -> int:
        """How many batches the first epoch has, without those skipped."""
        return len(self.epoch_batches(self.epoch)) - self.skip

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first, skip = self.epoch, self.skip
        for epoch in range(first, self.last + 1):
            yield from self.epoch_batches(epoch)[skip if epoch == first else 0 :]

    def epoch_batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """All batches of an epoch, as far as they belong to this process: index and seed of each image."""
        rng = np.random.default_rng([self.seed, epoch])
        batches = self._draw(rng)
        size = self.pids_per_batch // self.processes * self.num_instances
        own = slice(self.process_rank * size, (self.process_rank + 1) * size)
        seeds = [rng.integers(MAX_SEED, size=len(batch)) for batch in batches]
        return [list(zip(b[own].tolist(), s[own].tolist(), strict=True)) for b, s in zip(batches, seeds, strict=True)]

    def _draw(self, rng: np.random.Generator) -> list[np.ndarray]:
        groups = [self._groups(indices, rng) for indices in self.indices]
        remaining = np.array([len(own) for own in groups])
        left = np.flatnonzero(remaining)
        batches = []
        while len(left) >= self.pids_per_batch:
            drawn = rng.choice(left, size=self.pids_per_batch, replace=False)
            batches.append(np.concatenate([groups[identity].popleft() for identity in drawn]))
            remaining[drawn] -= 1
            left = left[remaining[left] > 0]
        return batches

    def _groups(self, indices: np.ndarray, rng: np.random.Generator) -> deque[np.ndarray]:
        if len(indices) < self.num_instances:
            return deque([rng.choice(indices, size=self.num_instances, replace=True)])
        count = len(indices) // self.num_instances
        return deque(np.split(rng.permutation(indices)[: count * self.num_instances], count))


def _by_label(labels: np.ndarray) -> list[np.ndarray]:
    """The indices of each label, in ascending order; sorted by label."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(labels) else []


def permuted_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Stage 1's batches: all `count` rows in random order, a different one each epoch; the last batch may be smaller.

    >>> sorted(len(batch) for batch in permuted_batches(5, batch_size=2, seed=0, epoch=1))
    [1, 2, 2]
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]

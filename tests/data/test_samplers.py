"""Batches are exactly P x K, and an epoch ends when too few identities are left."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svllreid.config.hints import with_keys
from svllreid.data.samplers import PKSampler, permuted_batches
from svllreid.errors import DatasetError


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 13), min_size=2, max_size=12),
    pids_per_batch=st.integers(2, 4),
    num_instances=st.integers(1, 5),
    seed=st.integers(0, 50),
)
def test_batches_are_exactly_p_by_k(counts, pids_per_batch, num_instances, seed):
    pids_per_batch = min(pids_per_batch, len(counts))
    labels = np.repeat(np.arange(len(counts)), counts)
    sampler = PKSampler(labels, pids_per_batch * num_instances, num_instances, seed)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    used, groups = Counter(), Counter()
    for batch in batches:
        own = Counter(labels[index] for index, _ in batch)
        assert len(own) == pids_per_batch and set(own.values()) == {num_instances}
        groups.update(own.keys())
        used.update(index for index, _ in batch)
    for label, count in enumerate(counts):
        assert groups[label] <= max(1, count // num_instances)
        if count >= num_instances:
            assert all(used[index] <= 1 for index in np.flatnonzero(labels == label))
    left = sum(groups[label] < max(1, count // num_instances) for label, count in enumerate(counts))
    assert left < pids_per_batch


def test_epochs_differ_and_repeat():
    sampler = PKSampler(np.repeat(np.arange(6), 5), 8, 2, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert first == list(sampler) != second
    seeds = [seed for batch in first for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    ("batch_size", "num_instances", "words"),
    [(32, 4, "3 identities, a batch needs 8"), (10, 4, "not a multiple of 4"), (4, 4, "needs two")],
)
def test_impossible_batches_are_refused(batch_size, num_instances, words):
    with pytest.raises(DatasetError, match=words) as error:
        PKSampler(np.repeat(np.arange(3), 4), batch_size, num_instances, seed=0)
    assert "SOLVER.STAGE2.IMS_PER_BATCH" in with_keys(error.value)


@pytest.mark.parametrize("batch_size", [4, 32])
def test_one_identity_is_not_blamed_on_the_batch_size(batch_size):
    with pytest.raises(DatasetError, match=r"has 1 identities, .* add images of other identities$"):
        PKSampler([0, 0, 0, 0], batch_size, 4, seed=0)


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(DatasetError, match="3 identities cannot be split evenly over 2 processes"):
        PKSampler(np.repeat(np.arange(3), 4), 12, 4, seed=0, processes=2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12))
def test_stage1_batches_cover_everything_once_and_are_never_empty(count, batch_size):
    batches = permuted_batches(count, batch_size, seed=1, epoch=2)
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert all(len(batch) for batch in batches)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_epochs_follow_each_other_without_a_new_iteration():
    sampler = PKSampler([0] * 4 + [1] * 4 + [2] * 4, 4, 2, seed=3)
    sampler.set_epoch(2, 1, last=4)
    stream = list(sampler)
    assert stream == sampler.epoch_batches(2)[1:] + sampler.epoch_batches(3) + sampler.epoch_batches(4)
    assert len(sampler) == len(sampler.epoch_batches(2)) - 1
    sampler.set_epoch(3)
    assert list(sampler) == sampler.epoch_batches(3)


def test_many_identities_take_no_time():
    before = time.perf_counter()
    sampler = PKSampler(np.random.default_rng(0).permutation(np.repeat(np.arange(20_000), 5)), 64, 4, seed=0)
    assert [len(indices) for indices in sampler.indices] == [5] * 20_000
    assert time.perf_counter() - before < 2  # a scan of all labels for each identity takes half a minute

"""The cache of decoded images in memory or on disk: equal pixels, never stale ones, errors where it does not fit."""

import errno
import multiprocessing
import os
import pickle
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from svllreid.data import cache as cache_module
from svllreid.data import datasets
from svllreid.data.cache import CacheSpec, FileCache
from svllreid.data.datasets import TrainDataset, training_labels
from svllreid.data.images import open_image
from svllreid.data.loader import batches, make_loader
from svllreid.data.transforms import TrainTransform
from svllreid.errors import ConfigError, ImageError, OutputError
from svllreid.types import Sample

HALF, SIZE, COUNT = (0.5, 0.5, 0.5), (32, 16), 12
KEYS = [[(index, 100 + index) for index in range(start, start + 4)] for start in range(0, COUNT, 4)]


@pytest.fixture
def samples(tmp_path):
    for index in range(COUNT):
        pixels = torch.randint(0, 256, (40, 20, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{index}.jpg")
    return [Sample(tmp_path / f"{index}.jpg", index // 3) for index in range(COUNT)]


@pytest.fixture
def plan(samples, tmp_path):
    def make(kind="disk", shared=False, size=SIZE):
        return CacheSpec(kind, tuple(sample.path for sample in samples), size, tmp_path / "cache", shared)

    return make


@pytest.fixture
def decoded(monkeypatch):
    """Paths decoded in this process."""
    seen = []
    monkeypatch.setattr(datasets, "open_image", lambda path: seen.append(path) or open_image(path))
    return seen


def dataset(samples, cache=None):
    return TrainDataset(
        samples, training_labels(samples), TrainTransform(SIZE, HALF, HALF, padding=2, augmented=2), cache
    )


def loaded(data, workers=0):
    source = make_loader(data, workers=workers, pin=False, batch_sampler=KEYS)
    return [batch for _ in range(2) for batch in batches(source)]


def same(first, second):
    pairs = [pair for one, other in zip(first, second, strict=True) for pair in zip(one, other, strict=True)]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_bit_identical_with_and_without(samples, plan, decoded, kind, workers):
    expected = loaded(dataset(samples))
    decoded.clear()
    cache = plan(kind, shared=workers > 0).open()
    assert same(loaded(dataset(samples, cache), workers), expected)
    # What workers put there is here too: two passes decode each image once.
    assert same(loaded(dataset(samples, cache)), expected)
    assert len(decoded) == (COUNT if workers == 0 else 0)


def test_a_file_serves_the_next_run(samples, plan, decoded):
    expected = loaded(dataset(samples, plan().open()))
    decoded.clear()
    assert same(loaded(dataset(samples, plan().open())), expected)
    assert not decoded


def test_a_sent_file_cache_opens_the_file(samples, plan, decoded):
    cache = plan().open()
    message = pickle.dumps(cache)
    assert len(message) < 1000
    loaded(dataset(samples, cache))
    decoded.clear()
    loaded(dataset(samples, pickle.loads(message)))
    assert not decoded


def test_a_damaged_image_is_made_again(samples, plan, decoded):
    expected = loaded(dataset(samples, plan().open()))
    decoded.clear()
    with plan().file.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    assert same(loaded(dataset(samples, plan().open())), expected)
    assert decoded == [samples[-1].path]


def test_another_image_size_or_decoder_is_another_file(samples, plan, monkeypatch):
    first = plan().file
    assert plan().file == first
    assert plan(size=(16, 32)).file != first
    os.utime(samples[0].path, ns=(0, 0))
    touched = plan().file
    assert touched != first
    samples[0].path.write_bytes(samples[0].path.read_bytes() + b"\0")
    os.utime(samples[0].path, ns=(0, 0))
    assert plan().file not in (first, touched)
    now = plan().file
    monkeypatch.setattr(cache_module.PIL, "__version__", "0")
    assert plan().file != now


def test_an_unreadable_image_is_reported_and_not_kept(samples, plan):
    whole = samples[2].path.read_bytes()
    data = dataset(samples, plan("memory").open())
    samples[2].path.write_bytes(whole[:50])
    assert isinstance(data[2, 0], ImageError)
    samples[2].path.unlink()
    assert isinstance(dataset(samples, plan().open())[2, 0], ImageError)
    samples[2].path.write_bytes(whole)
    assert torch.equal(data[2, 0][0][0], dataset(samples)[2, 0][0][0])


def fill(file, value, start):
    cache = FileCache(file, COUNT, SIZE)
    start.wait()
    for index in range(COUNT):
        cache.get(index, lambda index: torch.full((3, *SIZE), value + index, dtype=torch.uint8))


def test_processes_fill_one_file_together(plan):
    file, fork = plan().file, multiprocessing.get_context("fork")
    plan().open()
    start = fork.Event()
    processes = [fork.Process(target=fill, args=(file, 7, start)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    plan().open()  # reserving the room again leaves what is there
    cache = FileCache(file, COUNT, SIZE)
    for index in range(COUNT):
        assert (cache.get(index, partial(pytest.fail, "not there")) == 7 + index).all()


def test_what_does_not_fit_is_refused_before(plan, monkeypatch, tmp_path):
    monkeypatch.setattr(cache_module, "_free_memory", lambda shared: 100)
    with pytest.raises(ConfigError, match=r"cached images: 12 of 32 x 16 pixels need .* free; cache them on disk"):
        plan("memory").check()
    monkeypatch.setattr(cache_module, "_free_memory", lambda shared: plan().num_bytes)
    plan("memory").check()
    with pytest.raises(ConfigError):
        replace(plan("memory"), processes=2).check()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(OutputError, match=r"12 of .* left; free space, name another cache folder"):
        plan().open()
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_there_needs_no_more_room(plan, monkeypatch, tmp_path):
    plan().open()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    plan().check()


def test_free_memory_counts_shared_memory_where_it_is_shared(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_module, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    assert cache_module._free_memory(shared=True) == 100
    assert 1e6 < cache_module._free_memory(shared=False) < 1e14


def test_a_disk_that_fills_up_is_one_error_and_leaves_nothing(plan, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OutputError, match=r"no space left; it takes .* GB: name another cache folder"):
        plan().open()
    assert not plan().file.exists()


def test_a_folder_that_cannot_be_one(plan, tmp_path):
    (tmp_path / "cache").write_text("a file")
    words = r"cache/train_32x16_\w+\.u8 could not be written: .*name another cache folder"
    with pytest.raises(OutputError, match=words):
        plan().open()

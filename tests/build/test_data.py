"""Loaders, caches and augmentation as a configuration says."""

from pathlib import Path

import pytest
import torch

from svllreid import build
from svllreid.build.data import origin_name
from svllreid.data.device_augment import DeviceAugment
from svllreid.data.transforms import TrainTransform
from svllreid.errors import ConfigError, DatasetError


@pytest.fixture
def fabric(small_config):
    return build.build_fabric(small_config(), "cpu")


def test_names_are_one_or_several():
    assert build.entries("veri") == ("veri",)
    assert build.entries(("veri", "folder:/a")) == ("veri", "folder:/a")
    assert build.entries("") == build.entries(()) == ()


def test_own_data_is_known_by_its_place(small_config, tmp_path):
    datasets = small_config({"DATASETS.ROOT_DIR": str(tmp_path)}).datasets
    assert origin_name(datasets, "market1501:/elsewhere") == "market1501"
    assert origin_name(datasets, "folder") == f"folder:{tmp_path.resolve()}"
    assert origin_name(datasets, "folder:/a") == f"folder:{Path('/a').resolve()}"


def test_training_data_numbers_identities_and_cameras(data):
    assert data.labels == {0: 0, 1: 1, 2: 2, 3: 3} and data.numbers[:5] == [0, 0, 0, 0, 1]
    assert (data.side_rows.cameras, data.side_rows.num_views) == ((3, 8), 1)
    with pytest.raises(DatasetError, match="the training split is empty"):
        build.TrainingData.of([])


def test_training_batches_are_those_of_the_sampler(small_config, data, fabric, monkeypatch):
    monkeypatch.setattr(torch.multiprocessing, "cpu_count", lambda: 1)
    config = small_config({"DATALOADER.NUM_WORKERS": 7, "SOLVER.STAGE2.IMS_PER_BATCH": 4})
    sampler = build.build_sampler(config, data)
    assert {len(batch) for batch in sampler} == {4}
    loader = build.build_train_loader(config, data, sampler, fabric)
    assert loader.batch_sampler is sampler and loader.num_workers == 1 and not loader.pin_memory
    monkeypatch.setattr(torch.multiprocessing, "cpu_count", lambda: 8)
    fewer = small_config({"DATALOADER.NUM_WORKERS": 1})
    assert build.build_train_loader(fewer, data, sampler, fabric).num_workers == 1


def test_a_small_test_set_needs_no_worker_processes(small_config, data, fabric):
    workers = {}
    for size in (3, 4):  # 16 images are more than 4 batches of 3, and as many as 4 of 4
        config = small_config({"DATALOADER.NUM_WORKERS": 1, "TEST.IMS_PER_BATCH": size})
        loader = build.build_test_loader(config, data.samples, fabric)
        assert loader.batch_size == size and len(loader.dataset) == 16
        assert isinstance(loader.sampler, torch.utils.data.SequentialSampler)
        workers[size] = loader.num_workers
    assert workers == {3: 1, 4: 0}


AUGMENTATION = {
    "INPUT.SIZE_TRAIN": [48, 24],
    "INPUT.PIXEL_MEAN": [0.1, 0.2, 0.3],
    "INPUT.PIXEL_STD": [0.4, 0.5, 0.6],
    "INPUT.PROB": 0.7,
    "INPUT.PADDING": 3,
    "INPUT.RE_PROB": 0.8,
    "INPUT.RE_MAX_AREA": 0.25,
}


@pytest.mark.parametrize(("use_ssl", "images"), [(True, 3), (False, 1)])
def test_augmentation_follows_the_configuration(small_config, data, fabric, use_ssl, images):
    config = small_config({**AUGMENTATION, "MODEL.USE_SSL": use_ssl})
    transform = build.build_train_loader(config, data, build.build_sampler(config, data), fabric).dataset.transform
    assert isinstance(transform, TrainTransform)
    assert (transform.size, transform.flip, transform.padding) == ((48, 24), 0.7, 3)
    assert transform.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert transform.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert len(transform.erase) == images  # of the image and of each augmented copy
    assert transform.erase[0].probability == 0.8 and transform.erase[0].max_area == 0.25


def test_augmentation_on_the_device(small_config, fabric):
    assert isinstance(build.build_to_device(small_config({"INPUT.AUGMENT_ON": "device"}), fabric), DeviceAugment)
    assert not isinstance(build.build_to_device(small_config(), fabric), DeviceAugment)


def test_training_and_test_have_one_image_size(small_config):
    with pytest.raises(ConfigError, match=r"INPUT\.SIZE_TRAIN \[64, 32\] and INPUT\.SIZE_TEST \[32, 16\] differ"):
        build.build_test_transform(small_config({"INPUT.SIZE_TRAIN": [64, 32]}))


def test_where_decoded_images_are_kept(small_config, data, monkeypatch, tmp_path):
    monkeypatch.setenv("SVLLREID_CACHE", str(tmp_path))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert build.build_cache_spec(small_config(), data) is None
    plan = build.build_cache_spec(small_config({"DATALOADER.CACHE": "disk"}), data)
    assert (plan.kind, plan.folder, plan.size) == ("disk", tmp_path / "images", (32, 16))
    assert (plan.shared, plan.processes, len(plan.paths)) == (False, 2, 16)
    chosen = {"DATALOADER.CACHE": "memory", "DATALOADER.CACHE_DIR": "/c", "DATALOADER.NUM_WORKERS": 1}
    plan = build.build_cache_spec(small_config(chosen), data)
    assert (plan.kind, plan.folder, plan.shared) == ("memory", Path("/c"), True)

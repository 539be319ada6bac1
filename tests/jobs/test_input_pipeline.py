"""Training with each way of feeding images."""

import pytest
import torch

from svllreid.errors import ConfigError, OutputError
from svllreid.jobs.training import train

SHORT = {"MODEL.USE_TEXT": False, "MODEL.USE_SSL_STAGE1": False, "SOLVER.STAGE2.EVAL_PERIOD": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory, small_config):
    """Trains under these keys; the last epoch's weights."""

    def run(keys):
        folder = tmp_path_factory.mktemp("run")
        train(small_config({**SHORT, **keys, "OUTPUT_DIR": str(folder)}))
        return torch.load(folder / "tiny_2.pth", weights_only=True)

    return run


@pytest.fixture(scope="module")
def plain(weights):
    return weights({})


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_changes_no_weight(weights, plain, tmp_path, kind, workers):
    keys = {"DATALOADER.CACHE": kind, "DATALOADER.CACHE_DIR": str(tmp_path), "DATALOADER.NUM_WORKERS": workers}
    assert same(weights(keys), plain)
    assert len(list(tmp_path.iterdir())) == (kind == "disk")
    assert same(weights(keys), plain)


def test_the_cache_lies_with_the_other_caches(weights, plain, tmp_path, monkeypatch):
    monkeypatch.setenv("SVLLREID_CACHE", str(tmp_path))
    assert same(weights({"DATALOADER.CACHE": "disk"}), plain)
    assert [path.suffix for path in (tmp_path / "images").iterdir()] == [".u8"]


@pytest.mark.parametrize(("kind", "error"), [("memory", ConfigError), ("disk", OutputError)])
def test_a_cache_that_cannot_fit_is_refused_before_a_file_is_written(small_config, tmp_path, kind, error):
    # Not even the first image of this size fits anywhere.
    keys = {"INPUT.SIZE_TRAIN": [2**22, 2**21], "INPUT.SIZE_TEST": [2**22, 2**21], "DATALOADER.CACHE": kind}
    folder = tmp_path / "run"
    with pytest.raises(error, match="cached images: 24 of "):
        train(small_config({**SHORT, **keys, "DATALOADER.CACHE_DIR": str(tmp_path), "OUTPUT_DIR": str(folder)}))
    assert not folder.exists()


def test_augmenting_on_the_device_repeats_itself_with_any_workers(weights, plain):
    first = weights({"INPUT.AUGMENT_ON": "device"})
    again = weights({"INPUT.AUGMENT_ON": "device", "DATALOADER.NUM_WORKERS": 2})
    assert same(first, again) and not same(first, plain)


def test_without_draws_it_trains_as_on_the_cpu(weights):
    still = {"INPUT.PROB": 0.0, "INPUT.PADDING": 0, "INPUT.RE_PROB": 0.0}
    assert same(weights(still), weights({**still, "INPUT.AUGMENT_ON": "device"}))

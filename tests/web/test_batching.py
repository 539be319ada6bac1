"""Pictures of several requests in one batch, and a limit to how many wait."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from svllreid.embedding.encoder import FeatureEncoder
from svllreid.errors import EvaluationError
from svllreid.types import SideRows
from svllreid.web.errors import Refusal
from svllreid.web.service.batching import BatchingEncoder


class Gate:
    """An embedder that waits for a sign, then gives the first pixel's red as the feature.

    Args:
        spec: its record.
    """

    def __init__(self, model):
        self.device, self.dim, self.spec = model.device, 1, model.spec
        self.open, self.entered = threading.Event(), threading.Event()
        self.broken = False

    def __call__(self, images, camids, viewids):
        self.entered.set()
        self.open.wait(20)
        features = images[:, 0, :1, 0].float()
        return features * np.nan if self.broken else features


@pytest.fixture
def gate(service):
    return Gate(service.batching.encoder.embedder.embedder)


def shade(value):
    return torch.tensor([value, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 32, 16)


def test_pictures_that_wait_are_embedded_together_and_each_gets_its_own_feature(gate, service):
    sizes = []
    resize = service.batching.encoder.resize
    batching = BatchingEncoder(FeatureEncoder(gate, resize, SideRows(), batch_size=8), observe=sizes.append)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(batching.encode, [shade(200)])
        assert gate.entered.wait(20)
        others = [pool.submit(batching.encode, [shade(value), shade(value + 1)]) for value in range(0, 20, 2)]
        while batching.number < 21:
            pass
        gate.open.set()
        assert first.result().tolist() == [[200]]
        assert [one.result().ravel().tolist() for one in others] == [[value, value + 1] for value in range(0, 20, 2)]
    batching.close()
    assert (sizes[0], sum(sizes), max(sizes)) == (1, 21, 8)
    with pytest.raises(Refusal, match="busy"):
        batching.encode([shade(1)])


def test_more_pictures_than_may_wait_are_refused_at_once(gate, service):
    batching = BatchingEncoder(FeatureEncoder(gate, service.batching.encoder.resize, SideRows()), limit=3)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(batching.encode, [shade(1)] * 2)
        assert gate.entered.wait(20)
        with pytest.raises(Refusal, match="busy") as error:
            batching.encode([shade(1)] * 2)
        assert (error.value.status, error.value.retry_after) == (503, 2)
        gate.open.set()
        assert len(waiting.result()) == 2
    assert len(batching.encode([shade(1)] * 3)) == 3
    batching.close()


def test_an_error_reaches_the_request_and_the_next_one_is_served(gate, service):
    batching = BatchingEncoder(FeatureEncoder(gate, service.batching.encoder.resize, SideRows()))
    gate.open.set()
    gate.broken = True
    with pytest.raises(EvaluationError, match="NaN"):
        batching.encode([shade(1)])
    gate.broken = False
    with pytest.raises(RuntimeError, match="equal size"):
        batching.encode([shade(1), shade(1)[:, :1]])
    assert batching.encode([shade(5)]).tolist() == [[5]]
    batching.close()


def test_features_are_those_of_the_encoder(service):
    images = [Image.new("RGB", (9, 30), (value, 0, 0)) for value in (3, 90, 250)]
    prepared = [service.batching.prepare(image) for image in images]
    np.testing.assert_array_equal(service.batching.encode(prepared), service.batching.encoder.encode(images))

"""Loading in worker processes."""

import multiprocessing
import os
import signal

import pytest
from torchvision.transforms.v2.functional import pil_to_tensor

from svllreid.data.datasets import ImageDataset
from svllreid.data.loader import batches, make_loader
from svllreid.types import Sample


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_the_main_process(market, number):
    """Ctrl-C in a terminal reaches every process; the step under way still needs its batches."""
    images = sorted((market / "Market-1501-v15.09.15" / "bounding_box_test").iterdir())[:8]
    dataset = ImageDataset([Sample(path, 1) for path in images], pil_to_tensor)
    unread = iter(batches(make_loader(dataset, workers=1, pin=False, batch_size=1)))
    next(unread)  # the worker runs; it works ahead by two batches
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, number)
    assert len(list(unread)) == len(images) - 1

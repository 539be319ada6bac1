"""Training data of a few records, whose images nothing here opens."""

from pathlib import Path

import pytest

from svllreid.build import TrainingData
from svllreid.types import Sample


@pytest.fixture
def data():
    """Four people before two cameras, two shots each."""
    samples = [
        Sample(Path(f"{pid}_{camid}_{shot}.jpg"), pid, camid) for pid in range(4) for camid in (3, 8) for shot in "ab"
    ]
    return TrainingData.of(samples)

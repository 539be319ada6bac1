"""Makes the oracle of the ranking tests importable for all tests of evaluation; several threads for some."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "ranking"))


@pytest.fixture
def two_threads():
    """Ranking is shared out to torch's threads; tests have one each otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)

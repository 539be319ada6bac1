"""Where the recorded numbers and the real images are."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden() -> Path:
    return Path(os.environ.get("SVLLREID_GOLDEN", Path(__file__).parent / "golden"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not os.environ.get("SVLLREID_DATA"):
        pytest.skip("SVLLREID_DATA names no folder with real images")
    return Path(os.environ["SVLLREID_DATA"])

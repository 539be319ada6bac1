import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

Touch = Callable[..., None]


@pytest.fixture
def touch() -> Touch:
    """Makes empty files: readers read no pixels."""

    def make(folder: Path, names: Iterable[str]) -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


@pytest.fixture
def real_data() -> Path:
    """The folder of real images, from the environment."""
    named = os.environ.get("SVLLREID_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("SVLLREID_DATA names no folder with the real images")
    return Path(named)

"""Where the recorded numbers and the real images are; small images and configurations made on the spot."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before numpy and torch are imported, for these processes and those that they start: test workers share the cores, and
# more threads than cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

import svllreid

# Files whose tests take longest, most first. Whole files go to the test workers (--dist loadfile), so one
# that takes long must not start last.
LONG_FILES = (
    "runtime/test_processes.py",
    "jobs/test_nothing_lost.py",
    "test_readme.py",
    "embedding/test_export.py",
    "jobs/test_training.py",
    "jobs/test_testing.py",
    "jobs/test_exporting.py",
    "jobs/test_input_pipeline.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files that take longest first."""
    starts = {Path(__file__).parent / file: place for place, file in enumerate(LONG_FILES)}
    items.sort(key=lambda item: starts.get(item.path, len(starts)))


def pytest_terminal_summary(terminalreporter):
    """What the fuzz targets tried, a line each."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    lines = [text for report in reports for name, text in getattr(report, "user_properties", ()) if name == "fuzz"]
    if lines:
        terminalreporter.section("fuzzing")
        for line in dict.fromkeys(lines):
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[None]:
    """Test workers send reports as UTF-8, which a captured file name of another encoding does not fit."""
    return spelled_out((yield))


def spelled_out(part: Any) -> Any:
    """A part of a report whose texts are all UTF-8."""
    if isinstance(part, dict):
        return {key: spelled_out(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(spelled_out(value) for value in part)
    return part.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(part, str) else part


@pytest.fixture(scope="session")
def golden() -> Path:
    return Path(os.environ.get("SVLLREID_GOLDEN", Path(__file__).parent / "golden"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not os.environ.get("SVLLREID_DATA"):
        pytest.skip("SVLLREID_DATA names no folder with real images")
    return Path(os.environ["SVLLREID_DATA"])


def draw_person(pid: int, shot: int, size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Two coloured halves that belong to the person, and noise that belongs to the shot."""
    colours = np.random.default_rng(pid).integers(0, 256, (2, 1, 1, 3))
    noise = np.random.default_rng([pid, shot]).integers(-20, 21, (*size, 3))
    halves = np.concatenate([np.broadcast_to(c, (size[0] // 2, size[1], 3)) for c in colours])
    return Image.fromarray(np.clip(halves + noise, 0, 255).astype(np.uint8))


def write_market(root: Path, people: int = 4, cameras: int = 2, shots: int = 3) -> Path:
    """Market-1501's layout with `people` to train and as many to test."""
    base = root / "Market-1501-v15.09.15"
    for offset, folders in ((0, ["bounding_box_train"]), (people, ["query", "bounding_box_test"])):
        for pid in range(1 + offset, 1 + offset + people):
            for camera in range(1, cameras + 1):
                for shot in range(shots):
                    folder = base / folders[min(shot, len(folders) - 1)]
                    folder.mkdir(parents=True, exist_ok=True)
                    image = draw_person(pid, camera * 100 + shot)
                    image.save(folder / f"{pid:04d}_c{camera}s1_{shot:06d}_00.jpg")
    return root


@pytest.fixture(scope="session")
def market(tmp_path_factory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"))


SMALL = {
    "MODEL.NAME": "tiny",
    "MODEL.SSL_HIDDEN_DIM": 32,
    "MODEL.SSL_OUT_DIM": 16,
    "MODEL.USE_SSL_STAGE1": True,
    "MODEL.USE_SSL": True,
    "MODEL.SIE_CAMERA": True,
    "MODEL.SIE_COE": 1.0,
    "INPUT.SIZE_TRAIN": [32, 16],
    "INPUT.SIZE_TEST": [32, 16],
    "INPUT.PADDING": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.NUM_INSTANCE": 2,
    "SOLVER.STAGE1.IMS_PER_BATCH": 16,
    "SOLVER.STAGE1.MAX_EPOCHS": 2,
    "SOLVER.STAGE2.IMS_PER_BATCH": 8,
    "SOLVER.STAGE2.MAX_EPOCHS": 2,
    "SOLVER.STAGE2.BASE_LR": 1e-4,
    "SOLVER.STAGE2.EVAL_PERIOD": 1,
    "SOLVER.STAGE2.LOG_PERIOD": 1,
}


@pytest.fixture(scope="session")
def small_config(market):
    """Builds a configuration that trains in seconds; overrides as a mapping of keys."""

    def make(overrides=None):
        return svllreid.load_config(overrides={**SMALL, "DATASETS.ROOT_DIR": str(market), **(overrides or {})})

    return make


@pytest.fixture(scope="session")
def small_arguments(market):
    """The same as words of a command line."""
    return [f"{key}={value}" for key, value in {**SMALL, "DATASETS.ROOT_DIR": market}.items()]

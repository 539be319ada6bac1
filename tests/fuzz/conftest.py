"""What the fuzz targets share: their counts end in the report of the run, and memory has a hard limit."""

import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from campaign import SHOWN, Campaign
from rich.console import Console

import svllreid
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train

ROOM = 12 << 30  # bytes of address space on top of what the process has: what asks for more fails at once


@pytest.fixture
def campaign(record_property):
    """Opens a Campaign; when it closes, its counts are recorded, and its faults are the test's."""

    @contextmanager
    def opened(*arguments, **options):
        made = Campaign(*arguments, **options)
        try:
            yield made
        finally:
            record_property("fuzz", made.summary())
        if made.faults:
            listed = "\n  ".join(list(made.faults)[:SHOWN])
            pytest.fail(f"{len(made.faults)} faults in {made.tried} attempts:\n  {listed}", pytrace=False)

    return opened


@pytest.fixture(autouse=True)
def bounded():
    """A limit on the address space: a bomb fails its attempt instead of the machine."""
    resource = pytest.importorskip("resource")
    pages = re.findall(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text()) if sys.platform == "linux" else []
    if not pages:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, ((int(pages[0]) << 10) + ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, small_config):
    """A finished training run of the tiny model; not to be changed."""
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    train(small_config({"OUTPUT_DIR": str(folder)}), Options(device="cpu"), Console(quiet=True))
    return folder


@pytest.fixture(scope="session")
def encoder(run_folder):
    return svllreid.Encoder.load(run_folder / "tiny_2.pth", device="cpu")

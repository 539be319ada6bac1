"""What the fuzz targets share: their counts end in the report of the run, and memory has a hard limit."""

import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from campaign import SHOWN, Campaign

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
            listed = "\n  ".join(made.faults[:SHOWN])
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

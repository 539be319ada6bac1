"""What the fuzz targets share: their counts end in the report of the run, and memory has a hard limit."""

import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from campaign import SHOWN, Campaign
from rich.console import Console

import svllreid
from svllreid.jobs.preparing import Options
from svllreid.jobs.training import train
from svllreid.models import architectures

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


SMALLEST = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def smallest():
    """The tiny backbone made so small that it is loaded in milliseconds, and one process computes with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architectures, "TINY", SMALLEST)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def words(smallest, small_arguments):
    """Words of a command line that trains the smallest backbone on the small people."""
    return [*small_arguments, "MODEL.PRETRAINED=random", "SOLVER.STAGE1.MAX_EPOCHS=1", "SOLVER.STAGE2.MAX_EPOCHS=1"]


@pytest.fixture(scope="module")
def run_folder(words, tmp_path_factory):
    """A finished training run of an epoch each; not to be changed."""
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    train(svllreid.load_config(None, [*words, f"OUTPUT_DIR={folder}"]), Options(device="cpu"), Console(quiet=True))
    return folder


@pytest.fixture(scope="module")
def encoder(run_folder):
    return svllreid.Encoder.load(run_folder / "tiny_1.pth", device="cpu")

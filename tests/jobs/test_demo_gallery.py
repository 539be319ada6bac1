"""The gallery of the demonstration."""

import subprocess
import sys

import pytest

from svllreid.errors import GalleryError
from svllreid.jobs.demo_gallery import make_gallery

HOLD = (
    "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); sys.stdin.read()"
)


def test_a_gallery_that_is_being_served_is_not_replaced(tmp_path):
    (tmp_path / "people.web").mkdir()
    words = [sys.executable, "-c", HOLD, tmp_path / ".people.db.lock"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        server.stdout.readline()
        with pytest.raises(GalleryError, match="open in another process; end it"):
            make_gallery(tmp_path, tmp_path / "no.pth", None, 0, None)
        server.communicate()
    assert (tmp_path / "people.web").is_dir()

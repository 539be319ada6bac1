"""Facts that not every operating system provides: memory in use and free, and whether a process still runs."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

_ABANDONED_SECONDS = 24 * 3600


def peak_memory() -> int | None:
    """The most memory that this process has used so far, in bytes; None on Windows, which has no module `resource`."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def physical_memory() -> int | None:
    """The machine's memory in bytes; None where the system does not provide it, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def free_memory() -> int | None:
    """Free memory in bytes, at most a container's limit; all memory except on Linux; None if neither is known."""
    limits = [] if (whole := physical_memory()) is None else [whole]
    with suppress(OSError, ValueError):
        available = re.findall(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
        limits += [1024 * int(kilobytes) for kilobytes in available]
    with suppress(OSError, ValueError):  # ValueError: the word `max`
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(limits, default=None)


def left_behind(file: Path, process: int) -> bool:
    """Whether a temporary file was left by a process that has ended.

    On Windows, where `os.kill` always ends the process, this cannot be asked: a file counts as left behind when it was
    last written to a day ago.

    Args:
        file: the temporary file.
        process: the id of the process that made it.
    """
    if os.name == "nt":
        return time.time() - file.stat().st_mtime > _ABANDONED_SECONDS
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # another user's process; an impossible id
        return False
    return False

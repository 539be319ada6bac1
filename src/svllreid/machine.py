"""What only some operating systems tell of themselves and of processes; None, or a safe guess, where they do not."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

_ABANDONED_SECONDS = 24 * 3600


def peak_memory() -> int | None:
    """The most memory that this process has used so far, in bytes; None on Windows, which has no `resource` module."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def physical_memory() -> int | None:
    """The machine's memory in bytes; None where the system does not tell, as on Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def free_memory() -> int | None:
    """Bytes of memory that are free, as far as Linux or a container's limit tells, else all of it; None: not known."""
    limits = [] if (whole := physical_memory()) is None else [whole]
    with suppress(OSError, ValueError):
        found = re.findall(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
        limits += [1024 * int(kilobytes) for kilobytes in found]
    with suppress(OSError, ValueError):  # ValueError: the word `max`
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(limits, default=None)


def left_behind(file: Path, process: int) -> bool:
    """Whether a temporary file was left by a process that has ended.

    Windows has no signal that asks without doing harm (there `os.kill` ends the process): a file counts as left behind
    once nobody has written to it for a day.

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
    except (PermissionError, OverflowError):  # somebody else's process; a number that none has
        return False
    return False

"""Counts what a fuzz test tries, and keeps what breaks the rules: errors that are not ours, warnings, memory, files."""

from __future__ import annotations

import re
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svllreid.errors import ReidError

MEMORY = 1 << 30  # bytes that one attempt may take on top of what the process holds
SHOWN = 12
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Words of an error that says memory was asked for without bound, and words that are not for users.
_TOO_MUCH = re.compile(
    r"MemoryError|cannot allocate|can't allocate|not enough memory|bad_alloc|out of memory|malloc of size", re.I
)
_NOT_OURS = re.compile(r"Traceback \(most recent|weights_only|\bpydantic\b|<class '|object at 0x")
_TEMPORARY = re.compile(r"\..+\.\d+(\.|$)")

Snapshot = dict[str, tuple[int, int]]


class Campaign:
    """The attempts of one fuzz target.

    Args:
        target: what to call it in the report.
        folder: whose files no attempt may change, unless it says so; None: not watched.
        memory: bytes that an attempt may take.
    """

    def __init__(self, target: str, folder: Path | None = None, memory: int = MEMORY) -> None:
        self.target, self.folder, self.memory = target, folder, memory
        self.outcomes: Counter[str] = Counter()
        self.faults: dict[str, None] = {}  # in order, each once
        self.peak, self.start = 0, time.process_time()

    @property
    def tried(self) -> int:
        """How many attempts there were."""
        return self.outcomes.total()

    @contextmanager
    def attempt(self, case: str, *, changes: bool = False) -> Iterator[None]:
        """One attempt: ends well or with one of our errors, without a warning, within the memory.

        Args:
            case: what is tried, so that a fault can be tried again.
            changes: whether the files in the folder may be others afterwards, where the attempt ends well.
        """
        before = None if self.folder is None else snapshot(self.folder)
        start, refused = reset_peak(), False
        with warnings.catch_warnings(record=True) as escaped:
            warnings.simplefilter("always")
            try:
                yield
                self.outcomes["accepted"] += 1
            except ReidError as error:
                refused = True
                self.outcomes["refused"] += 1
                self.check_message(case, str(error))
            except Exception as error:
                self.outcomes["broken"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                self.fault(case, f"{type(error).__name__} at {where}: {str(error)[:300]}")
        for warning in escaped:
            self.fault(case, f"a warning escaped: {warning.category.__name__}: {warning.message}")
        self.check_memory(case, start)
        if before is not None and (refused or not changes):
            self.check_files(case, before)

    def check_message(self, case: str, message: str) -> None:
        """A message says something, and nothing that is not for users."""
        if not message.strip() or _NOT_OURS.search(message) or _TOO_MUCH.search(message):
            self.fault(case, f"the message is {message[:300]!r}")

    def check_memory(self, case: str, start: int) -> None:
        """The process took no more than an attempt may since `start`, which `reset_peak` gave."""
        taken = peak() - start
        self.peak = max(self.peak, taken)
        if taken > self.memory:
            self.fault(case, f"took {taken >> 20} MB of memory")

    def check_files(self, case: str, before: Snapshot) -> None:
        """The watched folder is as it was."""
        assert self.folder is not None
        after = snapshot(self.folder)
        if changed := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
            self.fault(case, f"files changed: {', '.join(changed[:5])}")

    def fault(self, case: str, what: str) -> None:
        """Keep what broke a rule."""
        self.faults[f"{case}: {what}"] = None

    def summary(self) -> str:
        """One line for the report."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        seconds = time.process_time() - self.start
        return f"{self.target}: {self.tried} tried ({counts}), {seconds:.0f} CPU seconds, {self.peak >> 20} MB at most"


def snapshot(folder: Path) -> Snapshot:
    """Size and time of writing of every file below a folder, and of every folder (0)."""
    found = {}
    for path in folder.rglob("*"):
        state = path.lstat()
        found[str(path)] = (state.st_size, state.st_mtime_ns) if path.is_file() else (0, 0)
    return found


def temporary_files(folder: Path) -> list[str]:
    """Names of files below a folder that a write left half done."""
    return [path.name for path in folder.rglob(".*") if _TEMPORARY.match(path.name)]


def peak() -> int:
    """The most resident memory of the process in bytes since `reset_peak`; 0 where the system does not tell."""
    try:
        return int(re.findall(r"VmHWM:\s+(\d+)", _STATUS.read_text())[0]) << 10
    except (OSError, IndexError):
        return 0


def reset_peak() -> int:
    """Count the peak from now on, and give the memory that is resident now."""
    try:
        _RESET.write_text("5")
    except OSError:
        return peak()
    return peak()

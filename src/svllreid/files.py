"""Atomic writes: a reader sees a file's old content or its new one, never a half of either."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from svllreid.errors import OutputError
from svllreid.machine import left_behind

# What a full disk, or one on which the user's share is full, fails with; not every system knows the second.
NO_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
# For every text file, beside encoding="utf-8": file names in another encoding hold bytes that UTF-8 cannot; they are
# spelled out, as \udcff.
UNENCODABLE = "backslashreplace"

_TEMPORARY = re.compile(r"\..+\.(\d+)")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and is removed when it does not.

    Raises: OutputError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # torch.save turns a failed write into a RuntimeError that does not say why.
        refused = _refusal(path, error)
        if refused is None:
            raise
        raise refused from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def file_name(text: str) -> str:
    """A text as part of a file's name on every system: what Windows or a path could not hold becomes `_`."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", text)


def user_path(given: str | os.PathLike[str]) -> Path:
    """A path as users write it: `~` is their home folder; where nobody is called so, `~name` stays as it is."""
    return Path(os.path.expanduser(given))  # noqa: PTH111 - pathlib's raises where there is no such user


def is_file(path: Path | os.DirEntry[str]) -> bool:
    """Whether there is such a file; false also for what no file can be called, such as a name that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path | os.DirEntry[str]) -> bool:
    """Whether there is such a folder; false also for what no folder can be called."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder."""
    for file in folder.glob(".*"):
        found = _TEMPORARY.fullmatch(file.name)
        if found and file.is_file() and left_behind(file, int(found[1])):
            file.unlink()


def _refusal(path: Path, error: OSError | RuntimeError) -> OutputError | None:
    code = error.errno if isinstance(error, OSError) else None
    # torch's archive writer checks itself, and says where in its own source instead of why.
    failed_write = isinstance(error, RuntimeError) and "inline_container" in str(error)
    if code in NO_SPACE or failed_write:
        return OutputError(
            f"{path} could not be written: no space left (an older file stays as it was); free space, "
            "or name another output folder",
            settings=("output folder",),
        )
    if isinstance(error, OSError):
        return OutputError(
            f"{path} could not be written: {error.strerror or error}; name an output folder that can be",
            settings=("output folder",),
        )
    return None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=UNENCODABLE, newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def file_stamp(path: Path) -> bytes:
    """Name, size and time of the last change: what tells a file from a changed one unread; of a missing one the name.

    As bytes, since a name need not be text.
    """
    name = os.fsencode(path)
    try:
        state = path.stat()
    except OSError:  # a missing file is reported where it is read
        return name + b"\0\0"
    return name + f"\0{state.st_size}\0{state.st_mtime_ns}\0".encode()

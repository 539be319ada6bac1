"""Files that are written atomically, and paths and file names as users and systems write them."""

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

# The error numbers of a full disk and of a full disk quota; not every system has the second.
NO_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
# The `errors` argument for every text file in UTF-8: file names in another encoding hold bytes that UTF-8 cannot
# encode, which are then written as \udcff.
UNENCODABLE = "backslashreplace"

_SPELLED = re.compile(r"\\u(dc[89a-f][0-9a-f])")
_TEMPORARY = re.compile(r"\..+\.(\d+)")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Writes a file atomically: readers see the old content or the new one, never a part of either.

    Yields a temporary path in the same folder. When the block ends, that file replaces `path`; when the block raises,
    it is removed and `path` stays as it was. Missing folders are made.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new folder" / "numbers.txt"
    >>> with atomic_write(path) as temporary:
    ...     written = temporary.write_text("1 2 3")
    ...     path.exists()
    False
    >>> path.read_text()
    '1 2 3'

    Raises: OutputError: the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # torch.save turns a failed write into a RuntimeError that does not say why.
        output_error = _output_error(path, error)
        if output_error is None:
            raise
        raise output_error from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def file_name(text: str) -> str:
    """Makes a text usable in a file name on every system: characters that are not allowed there become `_`.

    >>> file_name("folder:/data/run 3")
    'folder__data_run 3'
    """
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", text)


def spelled_out(text: str) -> str:
    r"""A file name from a text file, in which bytes that are no UTF-8 are spelled out (see UNENCODABLE).

    >>> spelled_out(r"jos\udce9.jpg") == "jos\udce9.jpg"
    True
    """
    return _SPELLED.sub(lambda match: chr(int(match[1], 16)), text)


def user_path(given: str | os.PathLike[str]) -> Path:
    """A path as users write it: `~` is their home folder, `~name` that of another user; an unknown `~name` is kept."""
    return Path(os.path.expanduser(given))  # noqa: PTH111 - pathlib's raises where there is no such user


def is_file(path: Path | os.DirEntry[str]) -> bool:
    """Whether the file exists. False, instead of an error, for an impossible path such as one that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path | os.DirEntry[str]) -> bool:
    """Whether the folder exists. False, instead of an error, for an impossible path."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def check_output_folder(folder: Path) -> None:
    """Checks that a folder can be written to, or made, before work whose results go there; nothing is made or written.

    Raises: OutputError: it cannot.
    """
    place = next(place for place in (folder, *folder.parents) if is_folder(place) or is_file(place))
    if not is_folder(place) or not os.access(place, os.W_OK):
        raise OutputError(
            f"{folder} could not be written: {place} is no folder that can be written to; name an output folder that "
            "can be",
            settings=("output folder",),
        )


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed processes left in a folder."""
    for file in folder.glob(".*"):
        match = _TEMPORARY.fullmatch(file.name)
        if match and file.is_file() and left_behind(file, int(match[1])):
            file.unlink()


def _output_error(path: Path, error: OSError | RuntimeError) -> OutputError | None:
    """The error for the user behind a failed write; None if the error has another cause."""
    code = error.errno if isinstance(error, OSError) else None
    # On a failed write torch's archive writer names a line of its own source, not the reason.
    failed_write = isinstance(error, RuntimeError) and "inline_container" in str(error)
    if code in NO_SPACE or failed_write:
        return OutputError(
            f"{path} could not be written: no space left (an older file stays as it was); free space, "
            "or choose another place for it",
            settings=("output folder",),
        )
    if isinstance(error, OSError):
        return OutputError(
            f"{path} could not be written: {error.strerror or error}; choose a place for it where you may write",
            settings=("output folder",),
        )
    return None


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=UNENCODABLE, newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def file_stamp(path: Path) -> bytes:
    """Name, size and time of last change of a file, which tell without reading it whether it has changed.

    They come as bytes, since a file's name need not be text. A missing file gives its name alone.
    """
    name = os.fsencode(path)
    try:
        state = path.stat()
    except OSError:  # a missing file is reported where it is read
        return name + b"\0\0"
    return name + f"\0{state.st_size}\0{state.st_mtime_ns}\0".encode()

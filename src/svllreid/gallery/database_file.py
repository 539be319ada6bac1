"""The file of a gallery, in truth a folder of Milvus Lite: locked for this process, and checked before it is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svllreid.errors import GalleryError
from svllreid.files import is_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock

SUFFIX = ".db"


class DatabaseFile:
    """A gallery's file, which this process has to itself until `close`.

    Args:
        path: ends in .db.
        wait: wait until no other process has it open, instead of raising an error.
        must_exist: refuse a file that is not there.
    Raises: GalleryError: it is open in another process, damaged, something else, or not there; or a library is missing.
    """

    def __init__(self, path: Path, *, wait: bool, must_exist: bool) -> None:
        self.path = path
        try:
            from milvus_lite.server_manager import server_manager_instance
        except ImportError:
            raise GalleryError(
                "galleries in a file need milvus-lite; install it with: pip install 'svllreid[search]'"
            ) from None
        self._servers = server_manager_instance
        if path.suffix != SUFFIX:
            raise GalleryError(f"{path}: a gallery's file ends in {SUFFIX}; name it {path.name}{SUFFIX}")
        if must_exist and not path.exists():
            raise GalleryError(f"{path}: there is no such gallery; make it first, or check the name")
        if path.exists() and not is_folder(path):
            raise GalleryError(f"{path} is no gallery, but another file; give another name")
        self._lock: BaseFileLock | None = _locked(path, wait)
        try:
            if self._lock.lock_counter == 1:  # first in this process
                for collection in sorted(path.glob("collections/*/")):
                    _check(collection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file; Milvus Lite ends with the last one in this process."""
        if self._lock is None:
            return
        if self._lock.lock_counter == 1:
            self._servers.release_server(str(self.path))
        self._lock.release()
        self._lock = None


def in_use(path: Path) -> bool:
    """Whether another process has a gallery's file open, or this one cannot know."""
    if not path.parent.is_dir():
        return False
    try:
        _locked(path, wait=False).release()
    except GalleryError:
        return True
    return False


def _locked(file: Path, wait: bool) -> BaseFileLock:
    """The lock of a gallery's file, held by this process. GalleryError where that is not possible."""
    from filelock import FileLock, Timeout

    lock = FileLock(file.with_name(f".{file.name}.lock"), is_singleton=True, thread_local=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise GalleryError(
            f"{file} is open in another process; put the gallery on a Milvus server, which serves several, or wait "
            "for it",
            settings=("waiting",),
        ) from None
    except OSError as error:
        raise GalleryError(
            f"{file} cannot be opened ({error.strerror or error}), as its lock lies beside it; make the "
            "folder writable, or give another file"
        ) from None
    return lock


def _check(collection: Path) -> None:
    """Refuse a damaged collection, where Milvus Lite would go on with what is left; clean up after a kill.

    A collection that a kill left half made or half dropped has no schema; Milvus Lite neither opens nor replaces it.
    """
    if not (collection / "schema.json").exists():
        shutil.rmtree(collection, ignore_errors=True)
        return
    manifest = collection / "manifest.json"
    try:
        # A new collection has no manifest. Of a damaged one, Milvus Lite takes the version before.
        content: Any = json.loads(manifest.read_bytes()) if manifest.exists() else {"partitions": {}}
        for name, partition in content["partitions"].items():
            for part in (*partition["data_files"], *partition["delta_files"]):
                if not (collection / "partitions" / name / part).is_file():
                    raise ValueError(f"{part} is missing")
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise GalleryError(
            f"{manifest} is damaged ({error}); restore the gallery from a copy, or make it anew"
        ) from None

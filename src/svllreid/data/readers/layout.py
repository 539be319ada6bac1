"""What the readers have in common: finding a dataset's folder, listing images, reading list files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from svllreid.errors import DatasetError
from svllreid.files import is_file, is_folder, user_path
from svllreid.types import Sample

Root = str | os.PathLike[str]
# The suffixes of all formats that Pillow decodes, and of HEIF, which a plug-in decodes; a test asks Pillow for its own.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"),
    *(".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".qoi"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".icb", ".vda", ".vst", ".sgi", ".rgb", ".rgba", ".bw", ".ras"),
    *(".ico", ".cur", ".icns", ".pcx", ".dcx", ".psd", ".dds", ".blp", ".ftc", ".ftu", ".fit", ".fits", ".fli", ".flc"),
    *(".gbr", ".im", ".iim", ".msp", ".pcd", ".pxr", ".xbm", ".xpm"),
)
# Files that Windows hides; on other systems hidden names begin with a dot.
HIDDEN = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class ListLine:
    """A line of a list file: its number, the image, and the digits of the image's identity, both as written."""

    number: int
    image: str
    identity: str


def first_three(items: Sequence[object]) -> str:
    """The first three items in words for a message.

    >>> first_three([1, 2, 3, 4])
    '1, 2, 3, ...'
    """
    return ", ".join(str(item) for item in items[:3]) + (", ..." if len(items) > 3 else "")


def by_path(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The samples sorted by path, the same on every system."""
    return tuple(sorted(samples, key=lambda sample: sample.path.as_posix()))


def note(place: str, what: str, names: Sequence[object]) -> list[str]:
    """A note that counts some names and shows three of them, in a list; an empty list if there are no names.

    >>> note("query", "folders without an image", ["a", "b"])
    ['query: folders without an image: 2 (a, b)']
    """
    return [f"{place}: {what}: {len(names)} ({first_three(names)})"] if names else []


def each_once(samples: Iterable[Sample], name: str, source: str) -> tuple[Sample, ...]:
    """The samples of a list file, sorted by path, each once even if the list repeats it.

    Args:
        samples: one for each line.
        name: the reader's name, for the message.
        source: the list or lists, for the message.
    Raises: DatasetError: the list gives an image several identities.
    """
    distinct = by_path(set(samples))
    lines = Counter(sample.path for sample in distinct)
    if ambiguous := [path.name for path, count in lines.items() if count > 1]:
        raise DatasetError(
            f"{name}: {source} give {len(ambiguous)} images more than one identity: {first_three(ambiguous)}. "
            "Unpack the lists again."
        )
    return distinct


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A context in which an error of the file system becomes a DatasetError that names the path."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from error


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a folder, sorted, without hidden ones.

    Args:
        images: files with the suffix of an image.
        folders: sub-folders, and links to folders.
        others: all others, including broken links.
    """

    images: tuple[str, ...]
    folders: tuple[str, ...]
    others: tuple[str, ...]


def list_folder(folder: Path) -> Listing:
    """Lists a folder.

    Raises: DatasetError: the folder cannot be read.
    """
    images, folders, others = [], [], []
    with reading(folder), os.scandir(folder) as entries:
        for entry in entries:
            lower = entry.name.lower()
            if lower.startswith(".") or lower in HIDDEN:
                continue
            if is_folder(entry):
                folders.append(entry.name)
            elif lower.endswith(IMAGE_SUFFIXES) and is_file(entry):
                images.append(entry.name)
            else:
                others.append(entry.name)
    return Listing(tuple(sorted(images)), tuple(sorted(folders)), tuple(sorted(others)))


def others_note(place: str, names: Sequence[object]) -> list[str]:
    """The note on files that are not images, in a list; an empty list if there are none."""
    return note(place, "files of other kinds passed over", names)


def contents(folder: Path) -> str:
    """The names in a folder, in words for a message."""
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return "it is empty"
    return "it holds " + ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def existing_folder(root: Root, name: str, wanted: str) -> Path:
    """The folder that a user names for a dataset, as a path.

    Args:
        root: what the user names; `~` is the home folder.
        name: the reader's name, for the message.
        wanted: what the folder should hold, for the message.
    Raises: DatasetError: the path does not exist, or is a file.
    """
    path = user_path(root)
    if is_file(path):
        raise DatasetError(
            f"{name}: {path} is a file. Name the folder that holds {wanted} (unpack an archive)",
            settings=("dataset folder",),
        )
    if not is_folder(path):
        raise DatasetError(
            f"{name}: {path} does not exist. Name the folder that holds {wanted}", settings=("dataset folder",)
        )
    return path


def locate(root: Root, name: str, folder: str, parts: Sequence[str]) -> Path:
    """Finds a dataset's folder, wherever the user's folder points to.

    It is `root/folder`, or the last part of `folder` directly below root, or root itself if it holds one of the parts.

    Args:
        root: what the user names.
        name: the reader's name, for the message.
        folder: the folder as the dataset's authors distribute it, relative to root, with `/`.
        parts: names of sub-folders; a folder that holds any of them is the dataset's.
    Raises: DatasetError: there is no such folder.
    """
    base = existing_folder(root, name, folder)
    for candidate in (base / folder, base / Path(folder).name):
        if is_folder(candidate):
            return candidate
    if any(is_folder(base / part) for part in parts):
        return base
    raise DatasetError(
        f"{name}: {base / folder} does not exist, and {base} does not hold {', '.join(parts)} itself; "
        f"{contents(base)}. Name the folder that holds {folder}",
        settings=("dataset folder",),
    )


def require_folder(dataset: Path, part: str, name: str) -> Path:
    """A sub-folder that the dataset's layout needs.

    Raises: DatasetError: it is missing.
    """
    path = dataset / part
    if not is_folder(path):
        raise DatasetError(
            f"{name}: folder {path} is missing; looked in {dataset}, {contents(dataset)}. "
            "Unpack the whole archive, with its own folder names."
        )
    return path


def read_text(path: Path, name: str) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark.

    Raises: DatasetError: the file is missing, cannot be read, or has another encoding.
    """
    if not is_file(path):
        beside = contents(path.parent) if is_folder(path.parent) else f"the folder {path.parent} is missing too"
        raise DatasetError(f"{name}: file {path} is missing; {beside}. Unpack the whole archive.")
    try:
        with reading(path):
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{name}: {path} is not UTF-8 text (byte {error.start}). Save it as UTF-8, or unpack it again."
        ) from error


def read_list(path: Path, name: str) -> list[ListLine]:
    """The lines `image identity` of a list file; blank lines, CRLF and surrounding spaces are ignored.

    Raises: DatasetError: the file is missing or empty, or lines have another form; the message shows the first three.
    """
    lines, bad = [], []
    for number, text in enumerate(read_text(path, name).splitlines(), start=1):
        fields = text.rsplit(maxsplit=1)
        if not fields:
            continue
        if len(fields) == 2 and fields[1].isascii() and fields[1].isdigit():
            lines.append(ListLine(number, fields[0].strip(), fields[1]))
        else:
            bad.append(f"line {number} {text.strip()!r}")
    if bad:
        raise DatasetError(
            f"{name}: {len(bad)} lines of {path} are not an image name and a whole identity number: "
            f"{first_three(bad)}. Fix them, or unpack the file again."
        )
    if not lines:
        raise DatasetError(f"{name}: {path} lists no image. Unpack it again.")
    return lines


def absent(paths: Iterable[Path]) -> list[Path]:
    """The paths that are not files, in their order.

    Each folder is listed once, since asking for every single file takes minutes on a network disk.
    """
    listed: dict[Path, frozenset[str]] = {}
    missing = []
    for path in paths:
        if path.parent not in listed:
            listed[path.parent] = _file_names(path.parent)
        # A file system that ignores case finds names that its listing spells otherwise.
        if path.name not in listed[path.parent] and not is_file(path):
            missing.append(path)
    return missing


def _file_names(folder: Path) -> frozenset[str]:
    if not is_folder(folder):
        return frozenset()
    with reading(folder), os.scandir(folder) as entries:
        return frozenset(entry.name for entry in entries if is_file(entry))


def require_present(paths: Sequence[Path], name: str, source: Path) -> None:
    """Checks that all images of a list exist.

    Args:
        paths: the images.
        name: the reader's name, for the message.
        source: the list, for the message.
    Raises: DatasetError: images are absent; the message shows the first three and the likely cause.
    """
    missing = absent(paths)
    if missing:
        raise DatasetError(
            f"{name}: {len(missing)} of the {len(paths)} images that {source} names are absent: "
            f"{first_three(missing)}. The likely cause is a partial unzip or copy: unpack the archive again."
        )

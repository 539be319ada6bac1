"""Files of weights, read without executing anything in them; a file that holds none is named for what it is."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from svllreid.errors import CheckpointError
from svllreid.files import is_file

# Under which of its entries a training checkpoint keeps the weights.
_NESTS = ("state_dict", "model", "net", "model_state_dict", "module")
# What torch, safetensors, zip and pickle raise on files that are something else, or damaged.
UNREADABLE = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, ImportError, struct.error, SafetensorError, pickle.UnpicklingError,
)  # fmt: skip
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_OLD_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # how files of torch before 1.6 begin
_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"%PDF": "a PDF document",
}
_START = 512  # bytes that tell what a file is
_UNFOLDED_BYTES = 64 << 20  # programs inside an archive are compressed, weights are not
_AGAIN = "download or copy it again"
_SAVE = "where it was made, run torch.save(model.state_dict(), 'weights.pth') and give that file"


class Fault(NamedTuple):
    """What a file is that holds no weights, and what its user can do."""

    what: str
    advice: str


def read_state(path: Path) -> dict[str, Any]:
    """The state dict in a safetensors file, a TorchScript archive or a torch file; nothing in it is executed.

    In a training checkpoint the state dict is the entry `state_dict`, `model` or the like.

    Raises: CheckpointError: no such file, or no state dict; it says what the file is instead.
    """
    if not is_file(path):
        raise CheckpointError(f"no weight file {path}; give the path of an existing .pth, .pt or .safetensors file")
    _refuse_too_much(path, sum(entry.file_size for entry in _entries(path) or ()))
    try:
        if _is_safetensors(_start_of(path)):
            return load_file(path)
        if is_torchscript(path):
            with warnings.catch_warnings():  # of TorchScript being deprecated: OpenAI's archives stay what they are
                warnings.simplefilter("ignore")
                return dict(torch.jit.load(path, map_location="cpu").state_dict())
        content = read_torch(path)
    except UNREADABLE as error:
        raise _refusal(path, fault_of(path, error)) from None
    for _ in _NESTS:
        inner = [content[key] for key in _NESTS if isinstance(content, dict) and isinstance(content.get(key), dict)]
        content = inner[0] if inner else content
    named = isinstance(content, dict) and all(isinstance(key, str) for key in content)
    if not named or not any(isinstance(value, torch.Tensor) for value in content.values()):
        kind = type(content).__name__
        raise CheckpointError(f"{path} holds a {kind} without named tensors, not a state dict of weights; {_SAVE}")
    for name, value in content.items():
        if isinstance(value, torch.Tensor) and not _is_plain(value):
            kind = f"{value.layout} {value.dtype} on {value.device}".replace("torch.", "")
            raise CheckpointError(f"{path}: {name} is {kind}, and weights are dense real numbers; save them as such")
    # One number expanded to a huge shape takes no room in the file; converting the tensor would make it whole.
    _refuse_too_much(path, sum(value.nbytes for value in content.values() if isinstance(value, torch.Tensor)))
    return content


def read_torch(path: Path, *, mmap: bool = False) -> Any:
    """What torch.save wrote, tensors on the CPU; only tensors and plain values are made.

    Args:
        path: the file.
        mmap: leave tensors on disk until they are used, where only the plain values are wanted.
    Raises: one of UNREADABLE, for `fault_of`. torch's own message advises to load the file unsafely; do not show it.
    """
    with warnings.catch_warnings(), path.open("rb") as file:  # by its path torch goes by the suffix
        warnings.simplefilter("ignore")  # of odd pickles, for torch's developers
        source = str(path) if mmap else file
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, a program with its weights."""
    return any(entry.filename.endswith("constants.pkl") for entry in _entries(path) or ())


def is_web_page(path: Path) -> bool:
    """Whether a file is a web page, which servers send instead of a file that they do not give."""
    return _text_start(_start_of(path)).startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def fault_of(path: Path, error: Exception) -> Fault:
    """What is wrong with a file that could not be read as weights.

    Args:
        path: the file.
        error: what came of reading it.
    """
    try:
        start, size = _start_of(path), path.stat().st_size
    except OSError as refusal:
        return Fault(f"cannot be opened ({refusal.strerror or refusal})", "allow reading it, or give another file")
    pickled = re.search(r"GLOBAL (\S+)", str(error))
    if pickled and "weights_only" in str(error):
        return Fault(
            f"holds Python objects ({pickled[1]}), as whole models and training states do, and reading these could run "
            "code",
            _SAVE,
        )
    known = _other_content(path, start, size)
    if known is not None:
        return known
    text = "" if "weights_only" in str(error) else str(error).strip().partition("\n")[0]
    reason = text.partition(". ")[0] or type(error).__name__
    if start.startswith((_ZIP, _OLD_TORCH)) or _is_safetensors(start):
        if isinstance(error, pickle.UnpicklingError):
            return Fault("is damaged, or holds more than tensors and plain values", f"{_AGAIN}, or {_SAVE}")
        return Fault(f"is damaged or incomplete ({reason})", _AGAIN)
    return Fault(f"was written neither by PyTorch nor as safetensors, or is damaged ({reason})", _AGAIN)


def _other_content(path: Path, start: bytes, size: int) -> Fault | None:
    """What a file is by its first bytes, where these are not those of weights."""
    if size == 0:
        return Fault("is empty", _AGAIN)
    if is_web_page(path):
        return Fault("is a web page, sent instead of the file", "download it again, in a browser to see what it says")
    if start.startswith((b"version https://git-lfs", b"/annex/objects/")):
        return Fault(
            "is a pointer of Git LFS or git-annex, which stands for the file in a repository",
            "fetch the file itself (git lfs pull), or download it from the repository's page",
        )
    name = next((name for magic, name in _OTHER_FORMATS.items() if start.startswith(magic)), None)
    if start[257:262] == b"ustar":
        name = "a tar archive"
    entries = _entries(path)
    if entries and not any(entry.filename.endswith("/data.pkl") for entry in entries):
        name = f"a ZIP archive of other files ({entries[0].filename})"
    if name is not None:
        archive = "archive" in name
        advice = "unpack it, and give the weight file in it" if archive else "give a file of PyTorch or safetensors"
        return Fault(f"is {name}", advice)
    if start.startswith(_PICKLE) and not start.startswith(_OLD_TORCH):
        return Fault("is a pickle that torch.save did not write", _SAVE)
    text = _as_text(start)
    return None if text is None else Fault(f"is a text file that begins {text!r}", _AGAIN)


def _is_plain(value: torch.Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_complex() or value.is_quantized or value.is_meta)


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)


def _text_start(start: bytes) -> bytes:
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()


def _as_text(start: bytes) -> str | None:
    """The first line, where the bytes are text."""
    try:
        text = start.decode("utf-8", "strict" if len(start) < _START else "ignore")
    except UnicodeDecodeError:
        return None
    if not all(character.isprintable() or character.isspace() for character in text):
        return None
    return (text.split("\n")[0].strip() or text.strip())[:60]


def _is_safetensors(start: bytes) -> bool:
    """Whether a file begins with the length of a header in JSON, then the header."""
    return start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") < 1 << 32


def _entries(path: Path) -> list[zipfile.ZipInfo] | None:
    """What a ZIP archive lists; None where it is none, or too damaged to list anything."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError, struct.error, OverflowError):
        return None


def _refuse_too_much(path: Path, unfolded: int) -> None:
    """CheckpointError where a file is made to fill the memory: weights are stored as they are, not compressed.

    Args:
        path: the file.
        unfolded: the bytes that what is in it says to have.
    """
    if unfolded > 2 * path.stat().st_size + _UNFOLDED_BYTES:
        fault = Fault(f"would unfold to {unfolded / 1e9:.1f} GB in memory, which no file of weights does", _AGAIN)
        raise _refusal(path, fault)


def _refusal(path: Path, fault: Fault) -> CheckpointError:
    return CheckpointError(f"{path} is not a readable weight file: it {fault.what}; {fault.advice}")

"""Published models fetched into a cache, and what arrives checked before it is used."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from svllreid.errors import CheckpointError, OutputError
from svllreid.models.published import PublishedModel
from svllreid.runtime.caches import cache_folder

if TYPE_CHECKING:
    from svllreid.models.layouts import State

DRIVE = "https://drive.google.com/uc?id={id}"
PAGE = "https://drive.google.com/file/d/{id}/view"
QUOTA = "Google Drive does so when a file's quota is exceeded: try again later"
CONNECT_SECONDS, SILENT_SECONDS = 20, 60

DownloadCallback = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Fetched:
    """A published file in the cache.

    Args:
        path: where it is.
        new: whether it was fetched now, not before.
        table_rows: rows of its side information table; 0 without one.
    """

    path: Path
    new: bool
    table_rows: int


def cached(model: PublishedModel, folder: Path | None = None) -> Path:
    """Where the file of a model is, once fetched."""
    return (folder or cache_folder()) / f"{model.name}.pth"


def fetch(
    model: PublishedModel, folder: Path | None = None, *, url: str = DRIVE, progress: DownloadCallback | None = None
) -> Fetched:
    """Fetch a published file into the cache, unless it is cached already; nothing in it is executed.

    It is downloaded to a `.part` file next to its place, which the next call continues if it was interrupted. It gets
    its name once it is checked.

    Args:
        model: which.
        folder: the cache; None takes `cache_folder()`.
        url: address with `{id}` or `{name}` in it; a mirror's may stand in for Google Drive's.
        progress: called with the bytes so far and in all (None: not known).
    Raises:
        CheckpointError: not published, not to be had, or not the backbone expected (then it is removed).
        OutputError: the cache cannot be written.
    """
    path = cached(model, folder)
    if path.is_file():
        try:
            return Fetched(path, False, _table_rows(_check(path, model)))
        except CheckpointError as error:
            raise CheckpointError(
                f"{model.name} is in the cache, but unusable: {error}; remove that file and run the same command again"
            ) from None
    if model.drive_id is None:
        raise CheckpointError(
            f"{model.name} is not published: the table of {model.method}'s authors has no link for {model.dataset}; "
            f"train it with the configuration file {model.config} on the dataset {model.dataset}",
            settings=("configuration file", "dataset"),
        )
    by_hand = f"fetch {PAGE.format(id=model.drive_id)} in a browser and put the file at {path}"
    part = path.with_name(f"{path.name}.part")
    try:
        if not part.is_file():
            _download(url.replace("{id}", model.drive_id).replace("{name}", model.name), part, progress)
        state = _check(part, model)
    except CheckpointError as error:
        removed = ". It is removed" if part.is_file() else ""
        part.unlink(missing_ok=True)
        raise CheckpointError(f"{model.name}: {error}{removed}. You can also {by_hand}") from None
    part.replace(path)
    return Fetched(path, True, _table_rows(state))


def _download(address: str, part: Path, progress: DownloadCallback | None) -> None:
    """Download to `part`; until all has arrived, gdown keeps it under a longer name beside, which it finds again."""
    try:
        import gdown
        from requests import RequestException
    except ImportError:
        raise CheckpointError("fetching needs gdown. Install it with: pip install 'svllreid[models]'") from None
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        gdown.download(
            address,
            str(part),
            quiet=True,
            use_cookies=False,  # neither read nor written outside the cache
            resume=True,
            progress=progress,
            timeout=(CONNECT_SECONDS, SILENT_SECONDS),
        )
    except gdown.FileURLRetrievalError as error:
        raise CheckpointError(f"{address} answers with a web page ({_short(error)}); {QUOTA}") from None
    except (gdown.DownloadError, RequestException) as error:
        raise CheckpointError(
            f"{address} could not be fetched: {_short(error)}. Check the network and run the same command again, which "
            f"continues with what has arrived; should it not, remove {part}* to start over"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{part} could not be written: {error.strerror or error}; free space, or set another SVLLREID_CACHE"
        ) from None


def _check(path: Path, model: PublishedModel) -> State:
    """The state dict in a file; CheckpointError where it is another thing, or of another backbone."""
    from svllreid.models.checkpoint import describe, read_checkpoint
    from svllreid.models.weight_file import is_torchscript, is_web_page

    if is_web_page(path):
        raise CheckpointError(f"{path} is a web page, not weights; {QUOTA}")
    if is_torchscript(path):  # its loader may run parts of it
        raise CheckpointError(f"{path} is a TorchScript program, not a state dict")
    state, _ = read_checkpoint(path)
    if describe(state) != model.expected:
        raise CheckpointError(f"{path} holds {describe(state)}, not {model.expected} ({model.backbone})")
    return state


def _table_rows(state: State) -> int:
    return len(state["cv_embed"]) if "cv_embed" in state else 0


def _short(error: Exception) -> str:
    # gdown goes on with advice about its own options.
    text = str(error).partition(".\n")[0].rstrip(".")
    return textwrap.shorten(text, 240, placeholder=" ...") or type(error).__name__

"""Models that others published: what there is, fetching it into a cache, checking what arrives."""

from __future__ import annotations

import difflib
import shlex
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from svllreid.errors import CheckpointError, OutputError
from svllreid.runtime.caches import cache_folder

if TYPE_CHECKING:
    from svllreid.models.layouts import State

DRIVE = "https://drive.google.com/uc?id={id}"
PAGE = "https://drive.google.com/file/d/{id}/view"
CATALOGUE = Path(__file__).with_suffix(".yml")
QUOTA = "Google Drive does so when a file's quota is exceeded: try again later"
CONNECT_SECONDS, SILENT_SECONDS = 20, 60

DownloadCallback = Callable[[int, int | None], None]


@dataclass(frozen=True)
class PublishedModel:
    """One published file.

    Args:
        name: what `svllreid models get` calls it.
        method, dataset, backbone: what was trained, on which DATASETS.NAMES, and MODEL.NAME.
        drive_id: of the file on Google Drive; None where its authors left the link out.
        config: shipped configuration it is tested with.
        overrides: keys and values to set beside it.
        stride: patch step in pixels.
        size: image height and width in pixels.
        sie_camera, sie_view: side information of its published configuration.
        views: viewpoints that the dataset labels; 0 where it labels none.
        reported: mAP and rank-1 in percent, None where no source is at hand.
        source: where `reported` was published.
    """

    name: str
    method: str
    dataset: str
    backbone: str
    drive_id: str | None
    config: str
    overrides: tuple[tuple[str, str], ...]
    stride: int
    size: tuple[int, int]
    sie_camera: bool
    sie_view: bool
    views: int
    reported: tuple[float, float] | None
    source: str | None

    @property
    def expected(self) -> str:
        """What `describe` says of a file of this backbone, stride and size."""
        from svllreid.models.clip import architecture_of

        vision = architecture_of(self.backbone)["vision_cfg"]
        width, layers = vision["width"], vision["layers"]
        if isinstance(layers, list):
            return f"a ResNet with {layers} blocks and {width} channels"
        rows, columns = ((side - vision["patch_size"]) // self.stride + 1 for side in self.size)
        return f"a ViT of width {width} with {layers} blocks and {rows * columns} patches"

    def settings(self, table_rows: int | None = None) -> dict[str, str]:
        """The keys to set beside `config`.

        Args:
            table_rows: rows of the file's side information table, 0 without one; they tell what it was trained with.
                None: as in its published configuration.
        """
        camera, view = self.sie_camera, self.sie_view
        if table_rows is not None:
            view = bool(self.views and table_rows) and table_rows % self.views == 0
            camera = table_rows > 0 and not (view and table_rows == self.views)
        sides = {"MODEL.SIE_CAMERA": str(camera).lower(), "MODEL.SIE_VIEW": str(view).lower()}
        told = camera or view or self.sie_camera or self.sie_view
        return {"DATASETS.NAMES": self.dataset, **dict(self.overrides), **(sides if told else {})}

    def test_command(self, weight: str | Path, table_rows: int | None = None) -> str:
        """The command that tests the file `weight`, for a shell; `data` stands for the folder of the datasets."""
        settings = {
            **self.settings(table_rows),
            "DATASETS.ROOT_DIR": "data",
            "TEST.WEIGHT": str(weight),
            "OUTPUT_DIR": f"outputs/{self.name}",
        }
        words = [word for pair in settings.items() for word in pair]
        return shlex.join(["svllreid", "test", "--config-file", self.config, *words])


@dataclass(frozen=True)
class Fetched:
    """A published file in the cache.

    Args:
        path: where it is.
        new: fetched now, not found there.
        table_rows: rows of its side information table; 0 without one.
    """

    path: Path
    new: bool
    table_rows: int


@cache
def catalogue() -> tuple[PublishedModel, ...]:
    """Every published model, those without a link too."""
    tree = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    found = []
    for prefix, method in tree["methods"].items():
        for dataset, drive_id in method["files"].items():
            about = tree["datasets"][dataset]
            sides = about["sides"] if method.get("sie") else []
            reported = method.get("reported", {}).get(dataset)
            found.append(
                PublishedModel(
                    name=f"{prefix}-{dataset}".lower(),
                    method=method["method"],
                    dataset=dataset,
                    backbone=method["backbone"],
                    drive_id=drive_id,
                    config=f"{about['configs']}/{method['config']}",
                    overrides=tuple(method.get("overrides", {}).items()),
                    stride=method["stride"],
                    size=tuple(about["size"]),
                    sie_camera="camera" in sides,
                    sie_view="view" in sides,
                    views=about.get("views", 0),
                    reported=tuple(reported) if reported else None,
                    source=method["source"] if reported else None,
                )
            )
    return tuple(found)


def find(name: str) -> PublishedModel:
    """The model of a name; CheckpointError with the nearest names where there is none."""
    models = {model.name: model for model in catalogue()}
    if name not in models:
        near = difflib.get_close_matches(name.lower(), models, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise CheckpointError(f"no published model {name!r}; {hint}`svllreid models list` shows all")
    return models[name]


def cached(model: PublishedModel, folder: Path | None = None) -> Path:
    """Where the file of a model is, once fetched."""
    return (folder or cache_folder()) / f"{model.name}.pth"


def fetch(
    model: PublishedModel, folder: Path | None = None, *, url: str = DRIVE, progress: DownloadCallback | None = None
) -> Fetched:
    """Fetch a published file into the cache, unless it is there; nothing in it is executed.

    It arrives in a `.part` file beside, which an interrupted download continues, and gets its name once checked.

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
            f"train it with --config-file {model.config} DATASETS.NAMES {model.dataset}"
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
    said = str(error).partition(".\n")[0].rstrip(".")
    return textwrap.shorten(said, 240, placeholder=" ...") or type(error).__name__

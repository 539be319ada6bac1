"""Writes rendered people as a dataset in Market-1501's layout; `svllreid data synth` calls it."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from svllreid.errors import DatasetError, OutputError
from svllreid.rendered.camera import MAX_CAMERAS, make_camera
from svllreid.rendered.shot import draw_image

FOLDER = "Market-1501-v15.09.15"
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
MIN_SIZE = (32, 16)
JPEG_QUALITY = 90


def synthesize(
    root: Path,
    *,
    identities: int,
    seed: int = 0,
    cameras: int = 4,
    images_per_camera: int = 3,
    alike: int = 1,
    hue: float = 0,
    size: tuple[int, int] = (128, 64),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a re-identification dataset of rendered people in Market-1501's layout.

    With N identities, people 1 to N are in `bounding_box_train` and people N + 1 to 2N in the test set. Of the latter,
    the first image by each camera is in `query` and the others are in `bounding_box_test`. The pixels of a file depend
    only on its name and the arguments other than N; N decides which people are trained on.

    Args:
        root: the folder that receives `Market-1501-v15.09.15`; made if missing.
        identities: N, 2 or more: people to train, and as many others to test.
        seed: decides people and cameras, 0 or more.
        cameras: 2 to 6, as in Market-1501.
        images_per_camera: images of each person by each camera, 2 or more.
        alike: number of people who share each outfit; more are harder to tell apart.
        hue: the largest angle in degrees by which cameras turn hues, 0 to 180, see `make_camera`.
        size: height and width in pixels, at least 32 x 16.
        progress: called after each image with the number of images written and of all images.
    Returns: `root`.
    Raises:
        DatasetError: an argument is out of range, or the dataset's folder is not empty.
        OutputError: the folder cannot be written to, or the disk is full; nothing is left behind.
    """
    root = Path(root)
    _check_arguments(identities, seed, cameras, images_per_camera, alike, hue, size)
    target = root / FOLDER
    _check_target(target)
    with _whole_or_nothing(target) as folder:
        site = [make_camera(seed, camid, size, hue) for camid in range(cameras)]
        names = list(_names(identities, cameras, images_per_camera))
        for done, (name, pid, camid, shot) in enumerate(names, start=1):
            _save(draw_image(seed, pid, site[camid], shot, size, alike), folder / name)
            if progress is not None:
                progress(done, len(names))
    return root


def _save(image: Image.Image, path: Path) -> None:
    # Encoded in memory, because Pillow's own writer loses the error number of a full disk.
    data = io.BytesIO()
    image.save(data, "JPEG", quality=JPEG_QUALITY)
    path.write_bytes(data.getvalue())


def _check_arguments(
    identities: int,
    seed: int,
    cameras: int,
    images_per_camera: int,
    alike: int,
    hue: float,
    size: tuple[int, int],
) -> None:
    if identities < 2:
        raise DatasetError(f"identities is {identities}: ranking needs at least 2 people; ask for 2 or more")
    if seed < 0:
        raise DatasetError(f"seed is {seed}: give 0 or a positive whole number")
    if not 2 <= cameras <= MAX_CAMERAS:
        raise DatasetError(f"cameras is {cameras}: Market-1501's layout is matched across 2 to {MAX_CAMERAS} cameras")
    if images_per_camera < 2:
        raise DatasetError(f"images_per_camera is {images_per_camera}: one goes to query, so give at least 2")
    if alike < 1:
        raise DatasetError(f"alike is {alike}: it counts the people who share an outfit; give 1 or more")
    if not 0 <= hue <= 180:
        raise DatasetError(f"hue is {hue}: it is an angle in degrees; give 0 to 180")
    if size[0] < MIN_SIZE[0] or size[1] < MIN_SIZE[1]:
        raise DatasetError(
            f"size is {size[0]} × {size[1]} (height × width): give at least {MIN_SIZE[0]} × {MIN_SIZE[1]}"
        )


def _check_target(target: Path) -> None:
    try:
        taken = target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir())))
    except OSError as error:
        raise _unwritable(target, error) from error
    if taken:
        raise DatasetError(f"{target} is already there and not an empty folder: remove it or choose another directory")


def _names(identities: int, cameras: int, images_per_camera: int) -> Iterator[tuple[str, int, int, int]]:
    """Each file's path in the dataset, with its pid, zero-based camid and shot."""
    for pid in range(1, 2 * identities + 1):
        for camid in range(cameras):
            for shot in range(images_per_camera):
                test = QUERY if shot == 0 else GALLERY
                part = TRAIN if pid <= identities else test
                yield f"{part}/{pid:04d}_c{camid + 1}s1_{shot + 1:06d}_00.jpg", pid, camid, shot


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    """A context with a temporary folder, holding the three empty sub-folders, that becomes `target` at its end.

    After an error, neither that folder nor any folder made above it is left.
    """
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    scratch: Path | None = None
    finished = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=target.parent))
        folder = scratch / FOLDER  # a folder of its own, because only the owner may enter that of mkdtemp
        for part in (TRAIN, QUERY, GALLERY):
            (folder / part).mkdir(parents=True)
        yield folder
        if target.exists():
            target.rmdir()
        folder.rename(target)
        finished = True
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        for folder in () if finished else made:
            with suppress(OSError):
                folder.rmdir()


def _unwritable(target: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        f"cannot write {target}: {reason}; nothing was left there: free space or choose another directory"
    )

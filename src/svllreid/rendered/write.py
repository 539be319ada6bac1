"""Writing a population of synthetic people as a dataset in Market-1501's layout."""

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
    """Write a re-identification dataset of drawn people in Market-1501's layout.

    People 1 to N go to `bounding_box_train`, N + 1 to 2N to the test: the first image of each by each camera to
    `query`, the others to `bounding_box_test`. An image depends on the seed and its own name alone, so a larger N
    leaves the files of everybody else as they were (though N decides who is in the test).

    Args:
        root: folder that receives `Market-1501-v15.09.15`; made where missing.
        identities: N, at least 2: so many to train and so many others to test.
        seed: population and cameras, not negative.
        cameras: 2 to 6, as Market-1501's readers expect.
        images_per_camera: at least 2, of each person by each camera.
        alike: so many people share each outfit and differ in the rest alone: the larger, the harder.
        hue: degrees by which cameras turn colours, 0 to 180, as in `make_camera`.
        size: height and width in pixels, at least 32 × 16.
        progress: called after each image with the number written and the number in all.
    Returns: `root`.
    Raises:
        DatasetError: an argument out of range, or the folder already holds something.
        OutputError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    root = Path(root)
    _check_arguments(identities, seed, cameras, images_per_camera, alike, hue, size)
    target = root / FOLDER
    _check_target(target)
    with _whole_or_nothing(target) as folder:
        views = [make_camera(seed, camid, size, hue) for camid in range(cameras)]
        names = list(_names(identities, cameras, images_per_camera))
        for done, (name, pid, camid, shot) in enumerate(names, start=1):
            _save(draw_image(seed, pid, views[camid], shot, size, alike), folder / name)
            if progress is not None:
                progress(done, len(names))
    return root


def _save(image: Image.Image, path: Path) -> None:
    # In memory first: Pillow's own writer loses the error number of a full disk.
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
    """Each file's path in the dataset with the person, the zero-based camera and the shot that it shows."""
    for pid in range(1, 2 * identities + 1):
        for camid in range(cameras):
            for shot in range(images_per_camera):
                test = QUERY if shot == 0 else GALLERY
                part = TRAIN if pid <= identities else test
                yield f"{part}/{pid:04d}_c{camid + 1}s1_{shot + 1:06d}_00.jpg", pid, camid, shot


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    """A folder with the three parts, yet empty, that becomes `target` at the end.

    After an error neither it nor any folder made for it remains.
    """
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    scratch: Path | None = None
    finished = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=target.parent))
        folder = scratch / FOLDER  # inside, because mkdtemp lets nobody but the owner in
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

"""A crowd: many rendered people at many sites, whose images are rendered into a folder once and then read from it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from svllreid.errors import DatasetError
from svllreid.files import atomic_write, remove_leftovers
from svllreid.rendered.attributes import Person, draw_person
from svllreid.rendered.camera import MAX_CAMERAS, make_camera
from svllreid.rendered.shot import draw_image

DRAWN_BY = 1  # the version of the drawing code, raised whenever images change
_CAMERAS = 41  # the first word of a random stream's seed
_POPULATIONS = 10**6  # the first population of crowds, far above those of `svllreid data synth`


@dataclass(frozen=True)
class Crowd:
    """Which people are rendered: `people` at each of `sites` sites, each seen by `images` of the site's six cameras.

    Args:
        seed: 0 or more; crowds of different seeds share neither sites nor people nor cameras.
        sites: number of sites, each with six cameras and people of its own.
        people: number of people at each site.
        images: number of images of each person, 1 to 6, each by another camera.
        size: height and width in pixels.
    """

    seed: int
    sites: int
    people: int
    images: int
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.seed + 1, self.sites, self.people) < 1 or not 1 <= self.images <= MAX_CAMERAS:
            raise DatasetError(f"{self}: seed is 0 or more, sites and people 1 or more, images 1 to {MAX_CAMERAS}")

    def __len__(self) -> int:
        """Number of people at all sites."""
        return self.sites * self.people

    def person(self, index: int) -> Person:
        """The person at an index, 0 to len - 1."""
        return draw_person(self.population(index // self.people), index % self.people)

    def everybody(self) -> list[Person]:
        """All people, in order of their index."""
        return [self.person(index) for index in range(len(self))]

    def population(self, site: int) -> int:
        """The seed from which a site's people and cameras are drawn."""
        return _POPULATIONS * (self.seed + 1) + site


def render(
    crowd: Crowd, folder: Path, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> RenderedCrowd:
    """Renders the sites that the folder lacks, into one file for each site, and opens all files.

    Args:
        crowd: which people.
        folder: holds the files of this crowd and of no other.
        workers: number of processes that render.
        progress: called after each site with the number of sites done and of all sites.
    Raises:
        DatasetError: a file in the folder is damaged, or of another crowd.
        OutputError: the folder cannot be written, or the disk is full.
    """
    files = [folder / f"site_{site:04d}.npy" for site in range(crowd.sites)]
    remove_leftovers(folder)
    missing = [site for site, file in enumerate(files) if not file.is_file()]
    done = crowd.sites - len(missing)
    for site, pixels in _rendered(crowd, missing, workers):
        with atomic_write(files[site]) as temporary, temporary.open("wb") as stream:
            np.save(stream, pixels)
        done += 1
        if progress is not None:
            progress(done, crowd.sites)
    return RenderedCrowd(crowd, files)


def _rendered(crowd: Crowd, sites: list[int], workers: int) -> Iterator[tuple[int, np.ndarray]]:
    work = partial(render_site, crowd)
    if workers <= 1 or len(sites) <= 1:
        yield from zip(sites, map(work, sites), strict=True)
        return
    # Spawned instead of forked, because torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), _ignore_ctrl_c) as pool:
        try:
            yield from zip(sites, pool.map(work, sites), strict=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ignore_ctrl_c() -> None:
    """Makes a worker ignore Ctrl-C, which reaches all processes of a terminal; the main process ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def render_site(crowd: Crowd, site: int) -> np.ndarray:
    """Renders all people of a site: (people, images, H, W, 3) uint8."""
    population = crowd.population(site)
    cameras = [make_camera(population, camid, crowd.size) for camid in range(MAX_CAMERAS)]
    pixels = np.empty((crowd.people, crowd.images, *crowd.size, 3), np.uint8)
    for pid in range(crowd.people):
        order = np.random.default_rng([_CAMERAS, population, pid]).permutation(MAX_CAMERAS)
        for shot, camid in enumerate(order[: crowd.images].tolist()):
            pixels[pid, shot] = np.asarray(draw_image(population, pid, cameras[camid], shot, crowd.size))
    return pixels


class RenderedCrowd:
    """The images of a crowd, read from memory-mapped files.

    Args:
        crowd: which people.
        files: the file of each site, in order, as `render` writes them.
    Raises: DatasetError: a file cannot be read, or is of another crowd.
    """

    def __init__(self, crowd: Crowd, files: list[Path]) -> None:
        self.crowd, self.files = crowd, files
        self.shape = (crowd.people, crowd.images, *crowd.size, 3)
        for file in files:
            _open(file, self.shape)

    def images(self, people: np.ndarray, shots: np.ndarray) -> np.ndarray:
        """An image of each person: (B, H, W, 3) uint8.

        Args:
            people: (B,) indices of people in the crowd.
            shots: (B,) which of the person's images, from 0.
        """
        sites, pids = np.divmod(people, self.crowd.people)
        chosen = zip(sites.tolist(), pids.tolist(), shots.tolist(), strict=True)
        # Files are opened each time, since a process may not hold as many files open as there are sites.
        return np.stack([_open(self.files[site], self.shape)[pid, shot] for site, pid, shot in chosen])


def _open(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        pixels = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{file} cannot be read ({error}); remove it, and it is rendered again") from None
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise DatasetError(f"{file} holds {pixels.dtype} {pixels.shape}, not {shape}; remove it or take another folder")
    return pixels

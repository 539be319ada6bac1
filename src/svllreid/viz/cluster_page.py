"""An HTML page to look through clusters: it opens offline, beside the pictures of `cluster_sheet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from svllreid.files import write_text


@dataclass(frozen=True)
class ClusterCard:
    """What the page shows of a cluster.

    Args:
        name: its pid in the manifest.
        picture: the file name of its picture, beside the page.
        images, drawn: how many images it has, and how many of them are in the picture.
        cameras: how many cameras they are of; 0 unknown.
        doubt: 0 where all images are at the cluster's mean; 1 where they are as near to another cluster; up to 2.
        nearest: the name of the nearest other cluster; empty where there is none.
        gap: the distance of the two clusters' means.
    """

    name: str
    picture: str
    images: int
    drawn: int
    cameras: int
    doubt: float
    nearest: str
    gap: float


_MARK = b'<meta name="generator" content="svllreid cluster">'  # in the template


def is_cluster_page(path: Path) -> bool:
    """Whether a file is a page that `write_cluster_page` wrote."""
    try:
        with path.open("rb") as file:
            return _MARK in file.read(1000)
    except OSError:
        return False


def write_cluster_page(path: Path, title: str, manifest: str, cards: Sequence[ClusterCard], unclustered: int) -> None:
    """Writes the page.

    All clusters stand below each other in the given order, and can be sorted by size, by doubt and by the distance to
    the nearest other cluster. The keys j and k (or n and p) go to the next and the previous one, m to the nearest other
    one. The page asks for nothing but the pictures beside it.

    Args:
        path: the HTML file to write.
        title: its heading.
        manifest: the file that a person corrects, for the text.
        cards: the clusters.
        unclustered: number of images in no cluster.
    Raises: OutputError: the file cannot be written.
    """
    template = resources.files("svllreid.viz").joinpath("cluster_page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template)
    write_text(path, page.render(title=title, manifest=manifest, cards=cards, unclustered=unclustered))

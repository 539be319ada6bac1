"""The catalogue of models that others published."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from svllreid.errors import CheckpointError

CATALOGUE = Path(__file__).with_suffix(".yml")


@dataclass(frozen=True)
class PublishedModel:
    """One published file.

    Args:
        name: under which it is fetched.
        method, dataset, backbone: what was trained, on which dataset, with which backbone.
        drive_id: the file's id on Google Drive; None where its authors published no link.
        config: shipped configuration it is tested with.
        changes: settings (stride, sie_coe) that differ from those of `config`, with their values.
        stride: patch step in pixels.
        size: image height and width in pixels.
        sie_camera, sie_view: side information of its published configuration.
        views: viewpoints that the dataset labels; 0 where it labels none.
        reported: mAP and rank-1 in percent, None where no source is known.
        source: where `reported` was published.
    """

    name: str
    method: str
    dataset: str
    backbone: str
    drive_id: str | None
    config: str
    changes: tuple[tuple[str, str], ...]
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
        from svllreid.models.architectures import architecture_of

        vision = architecture_of(self.backbone)["vision_cfg"]
        width, layers = vision["width"], vision["layers"]
        if isinstance(layers, list):
            return f"a ResNet with {layers} blocks and {width} channels"
        rows, columns = ((side - vision["patch_size"]) // self.stride + 1 for side in self.size)
        return f"a ViT of width {width} with {layers} blocks and {rows * columns} patches"


@cache
def catalogue() -> tuple[PublishedModel, ...]:
    """Every published model, those without a link too."""
    tree = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    models = []
    for prefix, method in tree["methods"].items():
        for dataset, drive_id in method["files"].items():
            about = tree["datasets"][dataset]
            sides = about["sides"] if method.get("sie") else []
            reported = method.get("reported", {}).get(dataset)
            models.append(
                PublishedModel(
                    name=f"{prefix}-{dataset}".lower(),
                    method=method["method"],
                    dataset=dataset,
                    backbone=method["backbone"],
                    drive_id=drive_id,
                    config=f"{about['configs']}/{method['config']}",
                    changes=tuple(method.get("changes", {}).items()),
                    stride=method["stride"],
                    size=tuple(about["size"]),
                    sie_camera="camera" in sides,
                    sie_view="view" in sides,
                    views=about.get("views", 0),
                    reported=tuple(reported) if reported else None,
                    source=method["source"] if reported else None,
                )
            )
    return tuple(models)


def find(name: str) -> PublishedModel:
    """The model of a name; CheckpointError with the nearest names, or all, where there is none.

    >>> find("clipreid-vit-market1501").reported
    (89.6, 95.5)
    """
    models = {model.name: model for model in catalogue()}
    if name not in models:
        near = difflib.get_close_matches(name.lower(), models, n=3, cutoff=0.4)
        names = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(models)}"
        raise CheckpointError(f"no published model {name!r}; {names}")
    return models[name]

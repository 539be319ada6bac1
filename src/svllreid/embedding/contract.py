"""The embedding contract: what turns images into features, and the record that says which features compare."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from svllreid.errors import EvaluationError

NECKS = ("before", "after", "joint")
"""Which features: before or after the BNNecks (`final` and `proj` side by side), or `joint`: `proj` alone, the feature
in the joint space of images and texts, which has no neck."""

_NOT_COMPARED = ("precision",)


@dataclass(frozen=True)
class EmbeddingSpec:
    """The model and the settings behind features.

    Args:
        weights: SHA-256 of the image encoder and its necks, see `svllreid.models.digest`.
        dim: numbers in a feature.
        image_size: height and width that images are resized to.
        pixel_mean, pixel_std: of each channel, images in 0..1.
        neck: one of NECKS.
        flip: whether the mirrored image's feature is averaged in.
        normalized: whether features have length 1.
        sie_camera, sie_view: whether side information of the camera, of the viewpoint is added.
        sie_coe: its factor, 0 without side information.
        sie_table: SHA-256 of its table, empty without side information.
        precision: arithmetic of the model: `32`, `tf32`, `16-mixed` or `bf16-mixed`.
        metric: the distance features are compared by.
    Example:
        >>> import svllreid
        >>> settings = {"image_size": (256, 128), "pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3, "neck": "before"}
        >>> settings |= {"flip": False, "sie_camera": False, "sie_view": False, "sie_coe": 0.0, "sie_table": ""}
        >>> spec = svllreid.EmbeddingSpec("0f3a", dim=1280, normalized=True, precision="32", **settings)
        >>> svllreid.EmbeddingSpec.from_dict(spec.to_dict()) == spec
        True
    """

    weights: str
    dim: int
    image_size: tuple[int, int]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    neck: str
    flip: bool
    normalized: bool
    sie_camera: bool
    sie_view: bool
    sie_coe: float
    sie_table: str
    precision: str
    metric: str = "euclidean"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal where features can be compared.

        Batch size and device are no part of a spec, and precision is none of the fingerprint: they round the numbers
        differently, but the function is the same, and a gallery that was embedded on a GPU in 16-mixed is searched
        with queries that a laptop embeds in 32.
        """
        compared = {name: value for name, value in asdict(self).items() if name not in _NOT_COMPARED}
        return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Every field and the fingerprint, as JSON has them."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return {"fingerprint": self.fingerprint, **plain}

    @classmethod
    def from_dict(cls, content: Any, origin: str = "the embedding's record") -> EmbeddingSpec:
        """What `to_dict` gave.

        Args:
            content: the dictionary.
            origin: what to call it in messages.
        Raises: EvaluationError: fields are missing or unknown (another version's), or were changed since.
        """
        if not isinstance(content, dict):
            raise EvaluationError(f"{origin}: {type(content).__name__} instead of fields; embed the images again")
        known = [field.name for field in fields(cls)]
        faults = [f"{name} is missing" for name in ("fingerprint", *known) if name not in content]
        faults += [f"{name!r} is not known" for name in content if name not in ("fingerprint", *known)]
        if faults:
            raise EvaluationError(
                f"{origin} was written by another version of svllreid ({'; '.join(faults)}); read it with that "
                "version, or embed the images again"
            )
        values: dict[str, Any] = {name: content[name] for name in known}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        spec = cls(**values)
        if spec.fingerprint != content["fingerprint"] or not isinstance(spec.precision, str):
            raise EvaluationError(
                f"{origin}: its fields do not make its fingerprint {content['fingerprint']!r}, so it was changed or "
                "damaged; embed the images again"
            )
        return spec


@dataclass(frozen=True)
class FeatureTable:
    """Features of some images, and what made them.

    Args:
        vectors: (n, D) float32 on the CPU.
        rows: (n,) int64, which image of the caller's list each vector is of.
        spec: the model and settings behind the vectors.
    """

    vectors: Tensor
    rows: Tensor
    spec: EmbeddingSpec


class Embedder(Protocol):
    """Turns batches of images into features: PyTorch's network, or a file that it was exported to."""

    @property
    def device(self) -> torch.device:
        """Where batches are wanted."""

    @property
    def dim(self) -> int:
        """Numbers in a feature (D)."""

    @property
    def spec(self) -> EmbeddingSpec:
        """The model and settings behind the features."""

    def __call__(self, images: Tensor, camids: Tensor, viewids: Tensor) -> Tensor:
        """Features (B, D) float32 of images (B, 3, H, W) with rows of the side information (B,), -1 where unknown."""


def check_same(
    first: EmbeddingSpec, second: EmbeddingSpec, names: tuple[str, str] = ("the first", "the second")
) -> None:
    """Refuse to compare features of two models, or of one model under two settings; precision may differ.

    Args:
        first, second: what made the features.
        names: what to call the two in the message.
    Raises: EvaluationError: names every field that differs, with both values.
    """
    if first.fingerprint == second.fingerprint:
        return
    one, other = asdict(first), asdict(second)
    differing = [name for name in one if name not in _NOT_COMPARED and one[name] != other[name]]
    listed = "; ".join(f"{name} is {_short(one[name])} and {_short(other[name])}" for name in differing)
    raise EvaluationError(
        f"features of {names[0]} and of {names[1]} cannot be compared: {listed}. Embed both with the same weights and "
        "settings"
    )


def _short(value: Any) -> str:
    """A value for a message; of a digest its beginning."""
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:8]}…"
    return json.dumps(value)

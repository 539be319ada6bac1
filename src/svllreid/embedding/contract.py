"""The embedding contract: the protocol of what turns images into features, and the record of how features were made."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from svllreid.errors import EvaluationError

logger = logging.getLogger(__name__)

NECKS = ("before", "after", "joint")
"""Which features an embedder returns.

`before` and `after`: `final` and `proj` concatenated, before or after their BNNecks. `joint`: `proj` alone, the feature
in the joint space of images and texts, without a neck.
"""

_NOT_COMPARED = ("precision",)


@dataclass(frozen=True)
class EmbeddingSpec:
    """The record of the model and the settings that made features; features with equal fingerprints can be compared.

    Args:
        weights: SHA-256 of the image encoder's weights and those of its necks, see `svllreid.models.digest`.
        dim: dimensions of a feature.
        image_size: height and width that images are resized to.
        pixel_mean, pixel_std: normalisation of each channel, for pixels in 0..1.
        neck: one of NECKS.
        flip: whether a feature is the mean of those of the image and its mirror image.
        normalized: whether features have length 1.
        sie_camera, sie_view: whether side information of the camera and of the viewpoint is added.
        sie_coe: factor of the side information; 0 without it.
        sie_table: SHA-256 of the table of side information; empty without it.
        precision: arithmetic of the model: `32`, `tf32`, `16-mixed`, `bf16-mixed`, or `int8` of exported files.
        metric: the distance by which features are compared.
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
        """16 hexadecimal digits that are equal where features can be compared.

        The precision is left out, as batch size and device are left out of the whole record: they only change how
        numbers are rounded. So a gallery that was embedded on a GPU in 16-mixed can be searched with queries that a
        laptop embeds in 32. Int8 rounds most: its features can be compared with others, and `check_same` logs that they
        are.
        """
        compared = {name: value for name, value in asdict(self).items() if name not in _NOT_COMPARED}
        return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:16]

    def without_side_information(self) -> EmbeddingSpec:
        """The record of features that the same model makes of images whose camera and viewpoint are unknown.

        They are those of a model without side information, as it then adds nothing.
        """
        return replace(self, sie_camera=False, sie_view=False, sie_coe=0.0, sie_table="")

    def to_dict(self) -> dict[str, Any]:
        """Every field and the fingerprint, as values that JSON can hold."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return {"fingerprint": self.fingerprint, **plain}

    @classmethod
    def from_dict(cls, content: Any, origin: str = "the embedding's record") -> EmbeddingSpec:
        """The record from the dictionary that `to_dict` returned.

        Args:
            content: the dictionary.
            origin: what error messages call it.
        Raises: EvaluationError: fields are missing or unknown, as those of another version, or do not match the
            fingerprint.
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
    """Features of images, with the record of how they were made.

    Args:
        vectors: (n, D) float32 on the CPU.
        rows: (n,) int64, for each vector the number of its image in the caller's list, counted from 0.
        spec: the model and settings that made the vectors.
    """

    vectors: Tensor
    rows: Tensor
    spec: EmbeddingSpec


class Embedder(Protocol):
    """Turns batches of images into features; `embedding.torch.TorchEmbedder` does so with a PyTorch network.

    Any class with these four members can take its place in `embed` and `FeatureEncoder`.
    """

    @property
    def device(self) -> torch.device:
        """The device that batches have to be on."""

    @property
    def dim(self) -> int:
        """Dimensions of a feature (D)."""

    @property
    def spec(self) -> EmbeddingSpec:
        """The record of the model and settings that make the features."""

    def __call__(self, images: Tensor, camids: Tensor, viewids: Tensor) -> Tensor:
        """Features (B, D) float32 of a batch.

        Args:
            images: (B, 3, H, W) on `device`: RGB, resized to the record's size, uint8; or float, also normalised.
            camids, viewids: (B,) int64, rows of the side information; -1 where unknown.
        """


def check_same(
    first: EmbeddingSpec, second: EmbeddingSpec, names: tuple[str, str] = ("the first", "the second")
) -> None:
    """Refuse to compare features of two models, or of one model under different settings; only precision may differ.

    Where one of the two is int8 and the other is not, a warning is logged.

    Args:
        first, second: the records of the features.
        names: what the message calls the two.
    Raises: EvaluationError: the records differ; the message names every such field with both values.
    """
    if first.fingerprint == second.fingerprint:
        if (first.precision == "int8") != (second.precision == "int8"):
            logger.warning(
                "features of %s are in precision %s and those of %s in %s: they are compared, and their distances are "
                "a little less exact",
                names[0],
                first.precision,
                names[1],
                second.precision,
            )
        return
    one, other = asdict(first), asdict(second)
    differing = [name for name in one if name not in _NOT_COMPARED and one[name] != other[name]]
    listed = "; ".join(f"{name} is {_short(one[name])} and {_short(other[name])}" for name in differing)
    advice = "Embed both with the same weights and settings"
    if all(name.startswith("sie_") for name in differing):
        advice = "Embed both with side information, or both without: it is used where cameras are given"
    raise EvaluationError(f"features of {names[0]} and of {names[1]} cannot be compared: {listed}. {advice}")


def _short(value: Any) -> str:
    """A value as a message shows it: a digest is cut to its first 8 digits."""
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:8]}…"
    return json.dumps(value)

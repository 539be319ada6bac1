"""Exported models: the record that each file holds of itself, and what all runtimes that compute with one share."""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svllreid.embedding.contract import EmbeddingSpec
from svllreid.errors import CheckpointError, EvaluationError, ExportError
from svllreid.files import is_file, user_path
from svllreid.types import UNKNOWN, SideRows

PIXELS = {"uint8": "0 to 255", "float": "0 to 1", "normalised": "(pixels / 255 - mean) / deviation of each channel"}
"""Kinds of input that an exported model may take, and the values of a pixel of each."""

RECORD_KEY = "svllreid"
"""The name under which a file's metadata holds the record."""

IMAGES, CAMERA_ROWS, VIEW_ROWS, FEATURES = "images", "camera_rows", "view_rows", "features"
"""Names of the inputs and of the output of an exported model."""

_FORMAT = 1
_RESIZE = "bilinear with antialiasing, as Pillow's BILINEAR, to height and width, whatever the aspect ratio was"


@dataclass(frozen=True)
class Agreement:
    """How similar the features of an exported model are to those of PyTorch.

    Args:
        images: number of images that were compared.
        minimum, mean: cosine of the two features of an image, over the images.
    """

    images: int
    minimum: float
    mean: float

    @classmethod
    def of(cls, features: np.ndarray, reference: np.ndarray) -> Agreement:
        """The agreement of features (n, D) with a reference (n, D); -1 where features are NaN or infinite.

        >>> Agreement.of(np.array([[1.0, 0.0], [2.0, 2.0]]), np.array([[2.0, 0.0], [1.0, 1.0]]))
        Agreement(images=2, minimum=1.0, mean=1.0)
        """
        lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(reference, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosines = (features * reference).sum(axis=1, dtype=np.float64) / lengths
        cosines = np.nan_to_num(cosines, nan=-1.0, posinf=-1.0, neginf=-1.0)
        return cls(len(cosines), round(float(cosines.min()), 7), round(float(cosines.mean()), 7))


@dataclass(frozen=True)
class ExportRecord:
    """What an exported file says of itself.

    Args:
        spec: the record of the model and the settings that make the features; its precision is `32` or `int8`.
        side_rows: the row of the side information that belongs to each camera and viewpoint.
        pixels: the kind of input, one of PIXELS.
        agreement: how similar the features were to those of PyTorch when the file was written.
        version: of svllreid, which wrote the file.
    """

    spec: EmbeddingSpec
    side_rows: SideRows
    pixels: str
    agreement: Agreement
    version: str

    def to_json(self) -> str:
        """The record as the text that the file's metadata holds."""
        spec = self.spec
        content = {
            "format": _FORMAT,
            "version": self.version,
            "input": {
                "name": IMAGES,
                "shape": ["batch", 3, *spec.image_size],
                "pixels": self.pixels,
                "values": PIXELS[self.pixels],
                "colour_order": "RGB",
                "mean": list(spec.pixel_mean),
                "deviation": list(spec.pixel_std),
                "resize": _RESIZE,
            },
            "output": {"name": FEATURES, "shape": ["batch", spec.dim]},
            "side_rows": {"cameras": list(self.side_rows.cameras), "views": list(self.side_rows.views)},
            "agreement": asdict(self.agreement),
            "embedding": spec.to_dict(),
        }
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str | None, origin: Path) -> ExportRecord:
        """The record from a file's metadata.

        Args:
            text: what the metadata holds; None where it holds no record.
            origin: the file, for messages.
        Raises: CheckpointError: there is no record, or one that this version cannot read.
        """
        if not text:
            raise CheckpointError(
                f"{origin} holds no record of svllreid, so how its images are prepared is not known; give a file that "
                "`svllreid export` wrote"
            )
        try:
            content = json.loads(text)
            rows = content["side_rows"]
            record = cls(
                EmbeddingSpec.from_dict(content["embedding"], f"the record in {origin}"),
                SideRows(_whole_numbers(rows["cameras"]), _whole_numbers(rows["views"])),
                content["input"]["pixels"],
                Agreement(**content["agreement"]),
                str(content["version"]),
            )
            if content["format"] != _FORMAT or record.pixels not in PIXELS:
                raise ValueError(f"format {content['format']!r}, pixels {record.pixels!r}")
        except (ValueError, TypeError, KeyError, AttributeError, EvaluationError) as error:
            raise CheckpointError(
                f"{origin}: its record cannot be read ({error!r}); it is damaged or of another version of svllreid. "
                "Export the model again"
            ) from None
        return record


def _whole_numbers(values: Any) -> tuple[int, ...]:
    if not all(type(value) is int for value in values):
        raise ValueError(f"cameras and viewpoints are whole numbers, not {values!r}")
    return tuple(values)


def inputs_of(spec: EmbeddingSpec) -> list[str]:
    """The names of an exported model's inputs: the images, and the rows of the side information that it adds."""
    return [IMAGES, *[CAMERA_ROWS] * spec.sie_camera, *[VIEW_ROWS] * spec.sie_view]


def pixel_input(images: Tensor, spec: EmbeddingSpec, pixels: str) -> np.ndarray:
    """Images as the input of an exported model.

    Args:
        images: (B, 3, H, W): uint8, or float, normalised as the record says.
        spec: the record with mean and deviation.
        pixels: the kind of input, one of PIXELS.
    Returns: (B, 3, H, W) uint8 or float32. Images that were made of 8-bit pixels give exactly these.
    """
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.pixel_mean, spec.pixel_std))
    if images.dtype == torch.uint8:
        if pixels == "uint8":
            return images.numpy()
        images = (images.float() * (1 / 255) - mean) / std
    if pixels == "normalised":
        return images.numpy()
    scaled = images * std + mean
    return (scaled * 255).round_().clamp_(0, 255).to(torch.uint8).numpy() if pixels == "uint8" else scaled.numpy()


class ExportedEmbedder(ABC):
    """The base of the embedders of exported models; a subclass runs the model in its `run`.

    Args:
        record: what the file says of itself.
    """

    def __init__(self, record: ExportRecord) -> None:
        self.record, self.spec, self.dim = record, record.spec, record.spec.dim
        self.device = torch.device("cpu")
        """Batches are handed over on the CPU, also where the runtime computes on a GPU."""

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The features (B, D) float32 of the inputs by name."""

    def __call__(self, images: Tensor, camids: Tensor, viewids: Tensor) -> Tensor:
        """Features (B, D) float32.

        Args:
            images: (B, 3, H, W): RGB, resized, uint8; or float, also normalised.
            camids, viewids: (B,) int64, rows of the side information; -1 where unknown.
        """
        unknown = torch.full_like(camids, UNKNOWN)
        values = {
            IMAGES: pixel_input(images, self.spec, self.record.pixels),
            CAMERA_ROWS: (camids if self.spec.sie_camera else unknown).numpy(),
            VIEW_ROWS: (viewids if self.spec.sie_view else unknown).numpy(),
        }
        features = self.run({name: np.ascontiguousarray(values[name]) for name in inputs_of(self.record.spec)})
        return torch.from_numpy(np.array(features, np.float32))

    def leave_out_side_information(self) -> None:
        """From now on take every camera and viewpoint for unknown, so that the model adds nothing for them."""
        self.spec = self.record.spec.without_side_information()

    def try_one(self, file: Path) -> None:
        """Compute the feature of one black image, as a check that the model takes and returns what its record says.

        Raises: CheckpointError: it does not, so one of the two was changed.
        """
        unknown = torch.tensor([UNKNOWN])
        try:
            shape = tuple(self(torch.zeros(1, 3, *self.spec.image_size, dtype=torch.uint8), unknown, unknown).shape)
        except Exception as error:  # runtimes raise errors of their own, which have no common base
            reason = " ".join(str(error).split())[:200]
        else:
            reason = "" if shape == (1, self.dim) else f"it returns {shape} instead of (1, {self.dim})"
        if reason:
            raise CheckpointError(
                f"{file}: the model is not the one that its record describes ({reason}); export the model again"
            )


def load_library(name: str, extra: str) -> Any:
    """Import an optional library.

    Args:
        name: the module.
        extra: the extra of this package that installs it.
    Raises: ExportError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"this needs {name.partition('.')[0]}, which cannot be imported ({error}). Install it with: "
            f"pip install 'svllreid[{extra}]'"
        ) from None


def existing_file(path: str | Path) -> Path:
    """The path of a file as users write it.

    Raises: CheckpointError: it does not exist.
    """
    file = user_path(path)
    if not is_file(file):
        raise CheckpointError(f"{file} does not exist or is no file; give a file that `svllreid export` wrote")
    return file


@contextmanager
def quiet() -> Iterator[None]:
    """A context without what exporting libraries print, warn of and log below errors: it is about their own code."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

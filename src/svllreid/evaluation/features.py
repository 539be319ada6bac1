"""Features of many images: computed batch by batch, saved with their labels, and read to be ranked again."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svllreid.errors import EvaluationError
from svllreid.files import file_name, write_beside
from svllreid.types import UNKNOWN, Batch, Sample

_PART = "part_"
# What NumPy and zip raise on files that are something else, or damaged; TypeError: one array instead of an archive.
_UNREADABLE = (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


@torch.inference_mode()
def extract(
    embed: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    device: torch.device,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Features (n, D) float32 on the CPU, in the order of the batches.

    Args:
        embed: a batch on `device` to features (B, D).
        batches: of images.
        device: where `embed` computes.
        progress: called with the number of images of each batch.
    """
    features = []
    for batch in batches:
        features.append(embed(batch.to(device)).float().cpu())
        if progress is not None:
            progress(len(batch.images))
    return torch.cat(features)


@dataclass(frozen=True)
class FeatureSet:
    """Test images with their features: what a protocol ranks, with or without the model at hand.

    Args:
        name: the dataset's.
        query, gallery: the images; under `vehicleid-10` all are in query.
        q_feats, g_feats: (Nq, D) and (Ng, D) features, tensors or arrays.
        protocol: see `Splits`.
        notes: what the reader had to say.
        parts: rows of query (int64) of each named part, see `Splits`.
    """

    name: str
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    q_feats: Any
    g_feats: Any
    protocol: str
    notes: tuple[str, ...] = ()
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write an .npz archive: {q,g}_{feats,pids,camids,viewids,paths}, name, protocol, notes and the parts' rows."""
        arrays: dict[str, Any] = {"name": self.name, "protocol": self.protocol, "notes": _texts(self.notes)}
        for side, samples, feats in (("q", self.query, self.q_feats), ("g", self.gallery, self.g_feats)):
            arrays[f"{side}_feats"] = np.asarray(feats)
            arrays[f"{side}_pids"] = np.array([sample.pid for sample in samples] or np.empty(0, np.int64))
            arrays[f"{side}_camids"] = np.array([sample.camid for sample in samples], np.int64)
            arrays[f"{side}_viewids"] = np.array([sample.viewid for sample in samples], np.int64)
            arrays[f"{side}_paths"] = _texts([str(sample.path) for sample in samples])
        arrays |= {f"{_PART}{part}": rows for part, rows in self.parts.items()}
        with write_beside(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> FeatureSet:
        """Read what `save` wrote, or an archive of others with at least q_feats, g_feats, q_pids and g_pids.

        Without camids the protocol is `leave-self-out`; without paths every image is another file.

        Raises: EvaluationError: no such archive, an array missing, of another length or of an unusable type.
        """
        if not path.is_file():
            raise EvaluationError(f"{path} does not exist; give a file that `svllreid test --save-features` wrote")
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except _UNREADABLE as error:
            raise EvaluationError(f"{path} is not a readable .npz archive of plain arrays: {error}") from None
        missing = [name for name in ("q_feats", "g_feats", "q_pids", "g_pids") if name not in arrays]
        if missing:
            has = ", ".join(arrays) or "nothing"
            raise EvaluationError(
                f"{path} lacks {', '.join(missing)}; it has {has}. Save the features with their labels"
            )
        known = "q_camids" in arrays
        if known != ("g_camids" in arrays):
            raise EvaluationError(f"{path} has only one of q_camids and g_camids; give both, or neither")
        protocol = str(arrays.get("protocol", "cross-camera" if known else "leave-self-out"))
        if protocol == "vehicleid-10" and len(arrays["g_feats"]):
            raise EvaluationError(f"{path}: vehicleid-10 draws its gallery from the queries; put all images there")
        return cls(
            name=file_name(str(arrays.get("name", path.stem))),
            query=_samples(path, arrays, "q"),
            gallery=_samples(path, arrays, "g"),
            q_feats=arrays["q_feats"],
            g_feats=arrays["g_feats"],
            protocol=protocol,
            notes=tuple(map(str, np.atleast_1d(arrays.get("notes", ())))),
            parts={name.removeprefix(_PART): _rows(path, name, arrays) for name in arrays if name.startswith(_PART)},
        )


def _rows(path: Path, name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """A part's rows of query, checked."""
    rows, count = arrays[name], len(arrays["q_pids"])
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not ((rows >= 0) & (rows < count)).all():
        raise EvaluationError(f"{path}: {name} is {rows.dtype} of shape {rows.shape}; give rows from 0 to {count - 1}")
    return rows


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(values or np.empty(0), dtype=str)


def _samples(path: Path, arrays: Mapping[str, np.ndarray], side: str) -> tuple[Sample, ...]:
    """The samples of a side, what is not said of them filled in."""
    count = len(np.atleast_1d(arrays[f"{side}_feats"]))
    unknown = np.full(count, UNKNOWN)
    columns = {
        "paths": ("texts", "U", np.array([f"{side}[{row}]" for row in range(count)])),
        "pids": ("integers or texts", "iuUS", unknown),
        "camids": ("integers", "iu", unknown),
        "viewids": ("integers", "iu", unknown),
    }
    found = []
    for what, (words, kinds, default) in columns.items():
        values = arrays.get(f"{side}_{what}", default)
        if values.shape != (count,) or (count and values.dtype.kind not in kinds):
            here = f"{side}_{what} is {values.dtype} of shape {values.shape}"
            raise EvaluationError(f"{path}: {here}; give {count} {words}, one an image")
        found.append(values.tolist())
    return tuple(Sample(Path(file), *rest) for file, *rest in zip(*found, strict=True))

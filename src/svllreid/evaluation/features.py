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
from svllreid.files import write_beside
from svllreid.types import UNKNOWN, Batch, Sample, Splits

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
        pictures: (Nq,) and (Ng,) numbers, equal where query and gallery image are the same picture; None: as the paths.
    """

    name: str
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    q_feats: Any
    g_feats: Any
    protocol: str
    notes: tuple[str, ...] = ()
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)
    pictures: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(cls, splits: Splits, q_feats: Any, g_feats: Any) -> FeatureSet:
        """The test images of a dataset with their features, one row an image of `query` and `gallery`."""
        rows = {sample: row for row, sample in enumerate(splits.query)}
        parts = {name: np.array([rows[sample] for sample in part]) for name, part in splits.parts.items()}
        sides = splits.query, splits.gallery
        query, gallery = (np.array([splits.pictures.get(s.path, -1) for s in side], np.int64) for side in sides)
        return cls(
            splits.name,
            *sides,
            q_feats,
            g_feats,
            splits.protocol,
            splits.notes,
            parts,
            pictures=(query, gallery) if splits.pictures else None,
        )

    def save(self, path: Path) -> None:
        """Write an .npz archive: {q,g}_{feats,pids,camids,viewids,paths}, name, protocol, notes and the parts' rows.

        Where they are known, also {q,g}_pictures.
        """
        arrays: dict[str, Any] = {"name": self.name, "protocol": self.protocol, "notes": _texts(self.notes)}
        for side, samples, feats in (("q", self.query, self.q_feats), ("g", self.gallery, self.g_feats)):
            arrays[f"{side}_feats"] = np.asarray(feats)
            arrays[f"{side}_pids"] = np.array([sample.pid for sample in samples] or np.empty(0, np.int64))
            arrays[f"{side}_camids"] = np.array([sample.camid for sample in samples], np.int64)
            arrays[f"{side}_viewids"] = np.array([sample.viewid for sample in samples], np.int64)
            arrays[f"{side}_paths"] = _texts([str(sample.path) for sample in samples])
        arrays |= {f"{_PART}{part}": rows for part, rows in self.parts.items()}
        if self.pictures is not None:
            arrays["q_pictures"], arrays["g_pictures"] = self.pictures
        with write_beside(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> FeatureSet:
        """Read what `save` wrote, or an archive of others with at least q_feats, g_feats, q_pids and g_pids.

        Without camids the protocol is `leave-self-out`; without pictures every path is another one, and without paths
        every image.

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
            name=str(arrays.get("name", path.stem)).replace("/", "_"),
            query=_samples(path, arrays, "q"),
            gallery=_samples(path, arrays, "g"),
            q_feats=arrays["q_feats"],
            g_feats=arrays["g_feats"],
            protocol=protocol,
            notes=tuple(map(str, np.atleast_1d(arrays.get("notes", ())))),
            parts={name.removeprefix(_PART): _rows(path, name, arrays) for name in arrays if name.startswith(_PART)},
            pictures=_pictures(path, arrays),
        )


def _pictures(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The pictures of both sides, checked; None where the archive has none."""
    found = [arrays[name] for name in ("q_pictures", "g_pictures") if name in arrays]
    if not found:
        return None
    counts = [len(arrays["q_pids"]), len(arrays["g_pids"])]
    if [values.shape for values in found] != [(count,) for count in counts] or any(
        values.dtype.kind not in "iu" for values in found
    ):
        raise EvaluationError(f"{path}: give q_pictures and g_pictures both, {counts[0]} and {counts[1]} integers")
    return found[0], found[1]


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

"""Test features with their labels and the record of their model: saved, read again, and combined."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from svllreid.embedding.contract import EmbeddingSpec, check_same
from svllreid.errors import EvaluationError
from svllreid.evaluation.table_file import NUMBERS, PARQUET, TableBlock, read_arrays, read_table, table_of_arrays
from svllreid.files import atomic_write, file_name, is_file, user_path
from svllreid.types import UNKNOWN, Sample, Splits

logger = logging.getLogger(__name__)

_PART = "part_"


@dataclass(frozen=True)
class FeatureSet:
    """Test images with their features: everything that a protocol needs to rank them without the model.

    Args:
        name: name of the dataset.
        query, gallery: the images; under `vehicleid-10` all of them are in query.
        q_feats, g_feats: (Nq, D) and (Ng, D) features, tensors or arrays.
        protocol: the protocol that ranks them, see `Splits`.
        notes: what the user should know about the dataset, see `Splits`.
        parts: for each named part the rows (int64) of its images in query, see `Splits`.
        pictures: (Nq,) and (Ng,) numbers that are equal where query and gallery image are the same picture. None:
            images are the same picture where their paths are equal.
        spec: the record of the model and settings that made the features; None where it is unknown.
    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import svllreid
        >>> from svllreid.types import Sample
        >>> query, gallery = (Sample(Path("q.jpg"), "ann", 0),), (Sample(Path("g.jpg"), "ann", 1),)
        >>> features = np.ones((1, 4), np.float32)
        >>> svllreid.FeatureSet("mine", query, gallery, features, features, "cross-camera").save("features.npz")
        >>> svllreid.FeatureSet.load("features.npz").g_feats.shape
        (1, 4)
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
    spec: EmbeddingSpec | None = None

    @classmethod
    def of(cls, splits: Splits, q_feats: Any, g_feats: Any, spec: EmbeddingSpec | None = None) -> FeatureSet:
        """The test images of a dataset with their features.

        Args:
            splits: the dataset.
            q_feats, g_feats: (Nq, D) and (Ng, D), a row for each image of `splits.query` and `splits.gallery`.
            spec: the record of the model; None where it is unknown.
        """
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
            spec=spec,
        )

    def save(self, path: str | Path) -> None:
        """Write an .npz archive, atomically.

        Its arrays are {q,g}_{feats,pids,camids,viewids,paths}, name, protocol, notes, and the rows of each part under
        `part_` and its name. Where they are known it also has {q,g}_pictures, and `embedding`, the record of the model
        as JSON. Features in bfloat16, which NumPy does not have, are saved in float32.

        Raises:
            EvaluationError: the numbers of features and of images differ.
            OutputError: the file cannot be written.
        """
        arrays: dict[str, Any] = {"name": self.name, "protocol": self.protocol, "notes": _texts(self.notes)}
        for side, samples, feats in (("q", self.query, self.q_feats), ("g", self.gallery, self.g_feats)):
            arrays[f"{side}_feats"] = values = _array(feats)
            if values.shape[:1] != (len(samples),):
                raise EvaluationError(
                    f"{side}_feats has shape {values.shape}, and there are {len(samples)} images; give one row an image"
                )
            arrays[f"{side}_pids"] = np.array([sample.pid for sample in samples] or np.empty(0, np.int64))
            arrays[f"{side}_camids"] = np.array([sample.camid for sample in samples], np.int64)
            arrays[f"{side}_viewids"] = np.array([sample.viewid for sample in samples], np.int64)
            arrays[f"{side}_paths"] = _texts([str(sample.path) for sample in samples])
        if self.spec is not None:
            arrays["embedding"] = json.dumps(self.spec.to_dict())
        arrays |= {f"{_PART}{part}": rows for part, rows in self.parts.items()}
        if self.pictures is not None:
            arrays["q_pictures"], arrays["g_pictures"] = self.pictures
        with atomic_write(user_path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> FeatureSet:
        """Read an archive that `save` wrote, or one from elsewhere with at least q_feats, g_feats, q_pids and g_pids.

        A table of features (Parquet, or .npz with `vectors`), as `svllreid embed` writes it, gives the images of its
        splits query and gallery.

        Where arrays are missing:

        - protocol: `cross-camera` if every image has a camera, otherwise `leave-self-out`; a note says so where some
          images have a camera and others do not;
        - pictures: images are the same picture where their paths are equal;
        - paths: every image gets a path of its own;
        - embedding: the model is unknown, which the log says.

        Raises: EvaluationError: there is no such archive, an array is missing or has a wrong length or type, or the
            features do not have the dimension that the record of the model names.
        """
        path = user_path(path)
        if not is_file(path):
            raise EvaluationError(
                f"{path} does not exist or is no file; give a file that `svllreid test --save-features` wrote"
            )
        if path.suffix.lower() in PARQUET:
            return cls._of_table(path, *read_table(path))
        arrays = read_arrays(path)
        if "vectors" in arrays:
            return cls._of_table(path, *table_of_arrays(path, arrays))
        missing = [name for name in ("q_feats", "g_feats", "q_pids", "g_pids") if name not in arrays]
        if missing:
            has = ", ".join([*list(arrays)[:9], *["..."] * (len(arrays) > 9)]) or "nothing"
            raise EvaluationError(
                f"{path} lacks {', '.join(missing)}; it has {has}. Save the features with their labels"
            )
        if ("q_camids" in arrays) != ("g_camids" in arrays):
            raise EvaluationError(f"{path} has only one of q_camids and g_camids; give both, or neither")
        query, gallery = (_samples(path, arrays, side) for side in "qg")
        protocol, notes = _fitting_protocol(query, gallery)
        if "protocol" in arrays:
            protocol, notes = str(arrays["protocol"]), []
        if protocol == "vehicleid-10" and len(arrays["g_feats"]):
            raise EvaluationError(f"{path}: vehicleid-10 draws its gallery from the queries; put all images there")
        return cls(
            name=file_name(str(arrays.get("name", path.stem))),
            query=query,
            gallery=gallery,
            q_feats=arrays["q_feats"],
            g_feats=arrays["g_feats"],
            protocol=protocol,
            notes=(*map(str, np.atleast_1d(arrays.get("notes", ()))), *notes),
            parts={name.removeprefix(_PART): _rows(path, name, arrays) for name in arrays if name.startswith(_PART)},
            pictures=_pictures(path, arrays),
            spec=_spec(path, arrays),
        )

    @classmethod
    def _of_table(cls, path: Path, table: TableBlock, spec: EmbeddingSpec | None) -> FeatureSet:
        """The query and gallery rows of a table; the protocol is that of `_fitting_protocol`."""
        if spec is None:
            logger.info("%s does not say which model its features are of", path)
        columns, sides = table.columns, {}
        for split in ("query", "gallery"):
            rows = np.flatnonzero(columns["split"] == split)
            if not len(rows) or (columns["pid"][rows] == "").any():
                raise EvaluationError(
                    f"{path} has {len(rows)} rows of the split {split}, and some without pid; ranking needs the splits "
                    "query and gallery, with a pid in each row"
                    if len(rows)
                    else f"{path} has no row of the split {split}; ranking needs the splits query and gallery"
                )
            samples = tuple(
                Sample(Path(columns["path"][row]), str(columns["pid"][row]), *(int(columns[n][row]) for n in NUMBERS))
                for row in rows
            )
            sides[split] = samples, table.vectors[rows]
        protocol, notes = _fitting_protocol(sides["query"][0], sides["gallery"][0])
        return cls(
            name=file_name(path.stem),
            query=sides["query"][0],
            gallery=sides["gallery"][0],
            q_feats=sides["query"][1],
            g_feats=sides["gallery"][1],
            protocol=protocol,
            notes=tuple(notes),
            spec=spec,
        )

    def with_gallery_of(self, other: FeatureSet) -> FeatureSet:
        """The queries of this set with the gallery of another set, to be ranked or saved.

        Pids and camids must mean the same in both. If one of the two sets has no record of its model, it is not checked
        that both are of the same model, and a note and the log say so.

        Args:
            other: the set whose gallery is taken.
        Raises: EvaluationError: the sets are of different models or settings, have features of different dimensions, or
            have different protocols.
        """
        names = (f"the queries ({self.name})", f"the gallery ({other.name})")
        notes = [*self.notes, *(note for note in other.notes if note not in self.notes)]
        spec = self.spec if other.spec is not None else None
        if self.spec is not None and other.spec is not None:
            check_same(self.spec, other.spec, names)
        else:
            notes.append(f"it is unknown whether {names[0]} and {names[1]} are of the same model")
            logger.warning("%s", notes[-1])
        if self.protocol != other.protocol or self.protocol == "vehicleid-10":
            raise EvaluationError(
                f"{names[0]} are ranked by {self.protocol}, {names[1]} by {other.protocol}; both must say which images "
                "are ranked against which in the same way (vehicleid-10 draws the gallery from the queries)"
            )
        sizes = tuple(np.shape(feats)[1] for feats in (self.q_feats, other.g_feats))
        if sizes[0] != sizes[1]:
            raise EvaluationError(f"{names[0]} have {sizes[0]} dimensions, {names[1]} {sizes[1]}; use the same model")
        name = self.name if self.name == other.name else f"{self.name}+{other.name}"
        return replace(
            self,
            name=name,
            gallery=other.gallery,
            g_feats=other.g_feats,
            notes=tuple(notes),
            pictures=None,  # the numbers of two sets do not tell which of their images are the same picture
            spec=spec,
        )


def _spec(path: Path, arrays: Mapping[str, np.ndarray]) -> EmbeddingSpec | None:
    """The record of the model in an archive; None where there is none."""
    if "embedding" not in arrays:
        logger.info("%s does not say which model its features are of", path)
        return None
    try:
        content = json.loads(str(arrays["embedding"]))
    except ValueError as error:
        raise EvaluationError(f"{path}: embedding is not JSON ({error}); embed the images again") from None
    spec = EmbeddingSpec.from_dict(content, f"{path}: embedding")
    for side in ("q_feats", "g_feats"):
        shape = arrays[side].shape
        if len(shape) != 2 or shape[1] != spec.dim:
            raise EvaluationError(f"{path}: {side} has shape {shape}, its model makes {spec.dim} numbers an image")
    return spec


def _pictures(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The pictures of queries and gallery, checked; None where the archive has none."""
    pictures = [arrays[name] for name in ("q_pictures", "g_pictures") if name in arrays]
    if not pictures:
        return None
    counts = [len(arrays["q_pids"]), len(arrays["g_pids"])]
    if [values.shape for values in pictures] != [(count,) for count in counts] or any(
        values.dtype.kind not in "iu" for values in pictures
    ):
        raise EvaluationError(f"{path}: give q_pictures and g_pictures both, {counts[0]} and {counts[1]} integers")
    return pictures[0], pictures[1]


def _rows(path: Path, name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows of a part's images in query, checked."""
    rows, count = arrays[name], len(arrays["q_pids"])
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not ((rows >= 0) & (rows < count)).all():
        raise EvaluationError(f"{path}: {name} is {rows.dtype} of shape {rows.shape}; give rows from 0 to {count - 1}")
    return rows


def _fitting_protocol(query: Sequence[Sample], gallery: Sequence[Sample]) -> tuple[str, list[str]]:
    """The protocol of images where nothing names it, and a note where only some of them have a camera."""
    samples = (*query, *gallery)
    unknown = sum(sample.camid == UNKNOWN for sample in samples)
    if not unknown:
        return "cross-camera", []
    if unknown == len(samples):
        return "leave-self-out", []
    return "leave-self-out", [
        f"{unknown} of {len(samples)} images have no camera, so all are ranked as if cameras were unknown "
        "(leave-self-out)"
    ]


def _array(features: Any) -> np.ndarray:
    """Features as an array that NumPy can save, from an array or a tensor on any device."""
    if isinstance(features, torch.Tensor):
        features = features.detach().cpu()
        features = features.float() if features.dtype == torch.bfloat16 else features
    return np.asarray(features)


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(values or np.empty(0), dtype=str)


def _samples(path: Path, arrays: Mapping[str, np.ndarray], side: str) -> tuple[Sample, ...]:
    """The samples of the queries (side `q`) or the gallery (`g`); where an array is missing, its values are unknown."""
    count = len(np.atleast_1d(arrays[f"{side}_feats"]))
    unknown = np.full(count, UNKNOWN)
    columns = {
        "paths": ("texts", "U", np.array([f"{side}[{row}]" for row in range(count)])),
        "pids": ("integers or texts", "iuUS", unknown),
        "camids": ("integers", "iu", unknown),
        "viewids": ("integers", "iu", unknown),
    }
    fields = []
    for what, (words, kinds, default) in columns.items():
        values = arrays.get(f"{side}_{what}", default)
        if values.shape != (count,) or (count and values.dtype.kind not in kinds):
            raise EvaluationError(
                f"{path}: {side}_{what} is {values.dtype} of shape {values.shape}; give {count} {words}, one an image"
            )
        fields.append(values.tolist())
    return tuple(Sample(Path(file), *rest) for file, *rest in zip(*fields, strict=True))

"""Identities and cameras of queries and gallery: which gallery images match a query, and which of these are junk."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from svllreid.errors import EvaluationError

_MOST = np.iinfo(np.int64).max


class Matches:
    """The gallery images that have each query's identity, and which of these are junk.

    Args:
        shape: number of queries, number of gallery images.
        q_pids, g_pids: (Nq,) and (Ng,) identities, integers or strings.
        q_camids, g_camids: (Nq,) and (Ng,) cameras, both or neither; a pair with equal pid and camid is junk.
    Raises: EvaluationError: lengths differ, types are other than integers or strings, an integer is above 2^63 - 1, or
        one of q_camids and g_camids is missing.
    Attributes:
        counts: (Nq,) int64, the number of gallery images with each query's identity, junk included.
    """

    def __init__(self, shape: tuple[int, int], q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any) -> None:
        query, gallery = _codes(q_pids, g_pids, "pids", shape)
        if (q_camids is None) != (g_camids is None):
            raise EvaluationError("only one of q_camids and g_camids is given; give both, or neither (no junk)")
        self.cameras = None if q_camids is None else _codes(q_camids, g_camids, "camids", shape)
        self.shape = shape
        self.order = np.argsort(gallery, kind="stable")
        self.starts = np.searchsorted(gallery[self.order], query, side="left")
        self.counts = np.searchsorted(gallery[self.order], query, side="right") - self.starts

    def require_match(self, step: int = 4096) -> None:
        """Check that at least one query has a match that is not junk.

        Args:
            step: number of queries that are checked at once, which bounds the memory.
        Raises: EvaluationError: no query has such a match; the message says whether because of the identities or of the
            cameras.
        """
        for start in range(0, self.shape[0], step):
            if not self.pairs(start, min(start + step, self.shape[0]))[2].all():
                return
        why = "all matches are junk (same pid and camid)" if self.counts.any() else "no query's pid is in the gallery"
        raise EvaluationError(f"no query can be counted: {why}; check the split, and leave out unknown camids")

    def pairs(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pairs of equal pid of queries start..stop.

        Returns: three (P,) arrays in the order of the queries: the row of the query in the block, counted from `start`;
            the gallery column, ascending for each query; and whether the pair is junk.
        """
        counts = self.counts[start:stop]
        rows = np.repeat(np.arange(stop - start), counts)
        inside = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = self.order[inside + np.repeat(self.starts[start:stop], counts)]
        if self.cameras is None:
            return rows, columns, np.zeros(len(rows), dtype=bool)
        return rows, columns, self.cameras[0][start:stop][rows] == self.cameras[1][columns]


def _codes(query: Any, gallery: Any, what: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from 0 for the values (integers or strings) of query and gallery; equal values get equal numbers."""
    sides = [_label_array(values, f"{side}_{what}") for side, values in (("q", query), ("g", gallery))]
    for side, name, values, count in zip("qg", ("query", "gallery"), sides, shape, strict=True):
        if len(values) != count:
            raise EvaluationError(f"{side}_{what}: {len(values)} entries for {count} {name} images; give one an image")
    if sides[0].dtype.kind != sides[1].dtype.kind:
        kinds = f"q_{what} are {sides[0].dtype}, g_{what} {sides[1].dtype}"
        raise EvaluationError(f"{kinds}; use integers in both or strings in both")
    codes = np.unique(np.concatenate(sides), return_inverse=True)[1]
    return codes[: shape[0]], codes[shape[0] :]


def _label_array(values: Any, name: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    if not isinstance(array, np.ndarray) or array.dtype == object:
        try:
            entries = list(array)
        except TypeError:
            raise EvaluationError(f"{name}: {array!r} is no list; give a list of integers or of strings") from None
        mixed = len({isinstance(entry, str) for entry in entries}) > 1
        array = np.asarray(entries, dtype=object if mixed else None)
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise EvaluationError(f"{name}: {array.dtype}, shape {array.shape}; give a list of integers or of strings")
    if array.dtype.kind == "u" and len(array) and array.max() > _MOST:
        raise EvaluationError(f"{name}: {array.max()} is larger than {_MOST}; give smaller integers, or strings")
    return array.astype(np.int64) if array.dtype.kind in "iu" else array

"""Distances between two sets of features, computed in blocks of rows and never held whole unless asked for.

On a CPU every product is one matrix product of a fixed, padded shape, so a distance does not depend on how the work is
cut into blocks. Equal gallery rows have equal distances to the last bit, and equal rows of both sets distance 0.

The unit of every distance that a user meets is Euclidean distance. Squared distances, which have the same order, stay
inside this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from svllreid.errors import EvaluationError
from svllreid.evaluation.ranking.blocks import in_threads
from svllreid.evaluation.ranking.matrix import Features, check_dimensions, duplicates, equal_rows, squared_norms

METRICS = ("euclidean", "cosine")

_TILE_SIDES = {"cpu": (512, 8192), "cuda": (1024, 16384)}  # most query rows, gallery rows of one matrix product
_FEW_ROWS = 128  # where the gallery is so large that more make too large a block
_BLOCK_BYTES = {"cpu": 96 << 20, "cuda": 2 << 30}  # of a block of distance rows
_CACHE_BYTES = 1 << 20  # a piece that stays in a core's cache between two passes


class PairwiseDistances:
    """Rows of the distance matrix, on demand.

    With `euclidean`, `rows` gives squared Euclidean distances (the same order without the rounding of a square root),
    computed as |q|² + |g|² − 2 q·g, never below 0, and 0 where both rows are equal; they are for ranking alone.
    `reported_rows` gives what is reported, Euclidean distances. With `cosine` both give 1 − cos, and 1 where a row is
    all zeros.

    Args:
        query: (Nq, D) features.
        gallery: (Ng, D) features; None compares the query set with itself.
        metric: one of METRICS.
    Raises: EvaluationError: different D, NaN or infinite rows, unknown metric.
    """

    def __init__(self, query: Features, gallery: Features | None = None, metric: str = "euclidean") -> None:
        gallery = query if gallery is None else gallery
        if metric not in METRICS:
            raise EvaluationError(f"metric {metric!r} is not known; choose one of {', '.join(METRICS)}")
        check_dimensions(query, gallery)
        query.dtype = gallery.dtype = self.dtype = torch.promote_types(query.dtype, gallery.dtype)
        self.query, self.gallery, self.metric = query, gallery, metric
        self.device = query.device
        self.shape = (query.count, gallery.count)
        self.row_bytes = gallery.count * (8 if self.dtype == torch.float64 else 4)
        self.block_bytes = _BLOCK_BYTES.get(self.device.type, _BLOCK_BYTES["cpu"])
        self.tile = self._tile()
        self.storage = torch.empty(0)
        self.gallery_norms, sums = squared_norms(gallery)
        self.query_norms, q_sums = (self.gallery_norms, sums) if query is gallery else squared_norms(query)
        self.copies, self.origins = duplicates(gallery, sums)
        self.equal: tuple[torch.Tensor, torch.Tensor] | None = None
        if metric == "euclidean":
            self.equal = self._equal_to_itself() if query is gallery else equal_rows(query, q_sums, gallery, sums)

    def _equal_to_itself(self) -> tuple[torch.Tensor, torch.Tensor]:
        """As `equal_rows`, where both sets are one."""
        rows = torch.arange(self.shape[0])
        first = rows.clone()
        first[self.copies] = self.origins
        return rows, first

    def _tile(self) -> tuple[int, int]:
        """Query and gallery rows of every matrix product: a matter of the problem, not of how it is cut into blocks."""
        rows, columns = _TILE_SIDES.get(self.device.type, _TILE_SIDES["cpu"])
        if rows * self.row_bytes > 2 * self.block_bytes:
            rows = _FEW_ROWS
        return _even_share(self.shape[0], rows), _even_share(self.shape[1], columns)

    def block_rows(self) -> int:
        """Query rows of a block of the usual size: a multiple of the tile, so that a block starts where a tile does."""
        return max(1, self.block_bytes // (self.row_bytes * self.tile[0])) * self.tile[0]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Distances of queries start..stop to the whole gallery.

        Args:
            start, stop: query rows; start a multiple of `tile[0]`.
        Returns: (stop − start, Ng) tensor, the caller's to change, that the next call overwrites.
        """
        tall, wide = self.tile
        query = self.query.rows(start, stop)
        tiles = _padded(query * -2 if self.metric == "euclidean" else query, tall).split(tall)
        if len(self.storage) < tall * len(tiles):
            shape = (tall * len(tiles), -(-self.shape[1] // wide) * wide)
            self.storage = torch.empty(shape, dtype=self.dtype, device=self.device)
        for left in range(0, self.shape[1], wide):
            columns = _padded(self.gallery.rows(left, min(left + wide, self.shape[1])), wide).T  # (D, wide)
            with _float32_products(self.device):
                for number, tile in enumerate(tiles):
                    top = number * tall
                    torch.mm(tile, columns, out=self.storage[top : top + tall, left : left + wide])
        block = self.storage[: stop - start, : self.shape[1]]
        self._finish(block, self.query_norms[start:stop])
        if self.equal is not None:
            queries, images = self.equal
            inside = slice(*np.searchsorted(queries.numpy(), (start, stop)))
            block[queries[inside] - start, images[inside]] = 0
        if len(self.copies):
            block[:, self.copies] = block[:, self.origins]
        return block

    def reported(self, distances: torch.Tensor) -> torch.Tensor:
        """What `rows` gives, in the unit that users meet, float32: Euclidean distances, or 1 − cos; a copy."""
        if self.metric != "euclidean":
            return distances.clone().float()
        if distances.device.type == "cpu":  # torch's own root may be one bit off there, by place and version
            return torch.from_numpy(np.sqrt(distances.numpy())).float()
        return distances.sqrt().float()

    def _finish(self, block: torch.Tensor, query_norms: torch.Tensor) -> None:
        """Turn the products (n, Ng) of a block, with −2 in them for Euclidean, into distances."""
        gallery = self.gallery_norms
        if self.metric == "cosine":
            query_norms, gallery = _inverse_root(query_norms), _inverse_root(gallery)
        if self.device.type != "cpu":
            self._finish_part(block, query_norms[:, None], gallery)
            return
        values, scales, images = block.numpy(), query_norms[:, None].numpy(), gallery.numpy()
        step = max(1, _CACHE_BYTES // (values.itemsize * self.shape[1]))
        parts = [slice(top, top + step) for top in range(0, len(block), step)]
        in_threads(lambda part: self._finish_part(values[part], scales[part], images), parts)

    def _finish_part(self, part: Any, query: Any, gallery: Any) -> None:
        """In place, on (n, Ng) products, (n, 1) and (Ng,): tensors or arrays."""
        if self.metric == "euclidean":
            part += gallery
            part += query
        else:
            part *= gallery
            part *= query
            part *= -1
            part += 1
        if isinstance(part, torch.Tensor):
            part.clamp_(min=0)
        else:
            np.maximum(part, 0, out=part)


@contextmanager
def _float32_products(device: torch.device) -> Iterator[None]:
    """Matrix products in full float32 inside, whatever torch is set to: TF32 would round distances to three digits."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _even_share(count: int, most: int) -> int:
    """Cut `count` into parts of equal size, at most `most` (rounded up to 64)."""
    share = -(-count // -(-count // most))
    return -(-share // 64) * 64


def _inverse_root(squares: torch.Tensor) -> torch.Tensor:
    return torch.where(squares > 0, squares, torch.inf).rsqrt()


def _padded(rows: torch.Tensor, multiple: int) -> torch.Tensor:
    """Rows (n, D) followed by zeros up to a multiple."""
    missing = -len(rows) % multiple
    if missing == 0:
        return rows
    return torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])


def _whole(query: Any, gallery: Any, metric: str, device: torch.device | str | None) -> torch.Tensor:
    query, gallery = Features(query, "q_feats", device), Features(gallery, "g_feats", device)
    distances = PairwiseDistances(query, Features(gallery.values, "g_feats", query.device), metric)
    return distances.rows(0, query.count).contiguous()


def distances(a: Any, b: Any) -> torch.Tensor | np.ndarray:
    """Euclidean distance of every row of `a` to every row of `b`: the unit of every distance that svllreid reports.

    Thresholds of `verify_features` and of metrics.json are in this unit, and are counted on these very numbers: for the
    same two sets `distances(q_feats, g_feats) <= threshold` accepts just the pairs that verification counted. Another
    choice of rows (one query alone) may differ in the last bits. Equal rows are at distance 0.

    Nothing here can know which model the rows are of: compare features of one `Encoder.spec`.

    Args:
        a, b: (n, D) and (m, D) float tensors or arrays, n and m at least 1; computed where `a` lies. float64 is
            compared in float64, all else in float32.
    Returns: (n, m) float32: a tensor on that device, or an array where `a` is no tensor. It takes 4 n m bytes, and its
        computation about 100 MB more.
    Raises: EvaluationError: not two-dimensional, empty, other types than floats, different D, NaN or infinity.
    Example:
        >>> import numpy as np
        >>> import svllreid
        >>> svllreid.distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]])).tolist()
        [[5.0, 1.0]]
    """
    query = Features(a, "a")
    source = PairwiseDistances(query, Features(b, "b", query.device))
    result = torch.empty(source.shape, device=source.device)
    step = source.block_rows()
    for start in range(0, query.count, step):
        stop = min(start + step, query.count)
        result[start:stop] = source.reported(source.rows(start, stop))
    return result if isinstance(a, torch.Tensor) else result.numpy()


def squared_euclidean(q_feats: Any, g_feats: Any, device: torch.device | str | None = None) -> torch.Tensor:
    """Squared Euclidean distances, whole: (Nq, D) and (Ng, D) float features to (Nq, Ng), float32 or float64.

    What ranking compares; users get `distances`.
    """
    return _whole(q_feats, g_feats, "euclidean", device)


def cosine(q_feats: Any, g_feats: Any, device: torch.device | str | None = None) -> torch.Tensor:
    """Cosine distances 1 − cos in [0, 2], whole: (Nq, D) and (Ng, D) float features to (Nq, Ng)."""
    return _whole(q_feats, g_feats, "cosine", device)

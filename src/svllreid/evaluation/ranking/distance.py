"""Distances between two sets of features, computed in blocks of rows.

On a CPU all matrix products have one fixed, padded shape, so a distance does not depend on how the work is cut into
blocks. Equal gallery rows have equal distances to the last bit, and equal rows of both sets have distance 0.

Every distance that a user sees is Euclidean. Squared distances, which have the same order, stay inside this package.
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

_TILE_SIDES = {"cpu": (512, 8192), "cuda": (1024, 16384)}  # most query and gallery rows of one matrix product
_FEW_ROWS = 128  # most query rows if the gallery is so large that more would make too large a block
_BLOCK_BYTES = {"cpu": 96 << 20, "cuda": 2 << 30}  # size of a block of distance rows
_CACHE_BYTES = 1 << 20  # size of a piece that stays in a core's cache between two passes


class PairwiseDistances:
    """Computes rows of the distance matrix of two sets of features.

    With `euclidean`, `rows` returns squared Euclidean distances: they have the same order without the rounding of a
    square root, and serve for ranking only. They are computed as |q|² + |g|² − 2 q·g, at least 0, and exactly 0 where
    both rows are equal. `reported` turns them into Euclidean distances. With `cosine` both return 1 − cos, and 1 where
    a row is all zeros.

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
        """The result of `equal_rows` where query and gallery are the same set."""
        rows = torch.arange(self.shape[0])
        first = rows.clone()
        first[self.copies] = self.origins
        return rows, first

    def _tile(self) -> tuple[int, int]:
        """The number of query and of gallery rows of every matrix product; it does not depend on the blocks."""
        rows, columns = _TILE_SIDES.get(self.device.type, _TILE_SIDES["cpu"])
        if rows * self.row_bytes > 2 * self.block_bytes:
            rows = _FEW_ROWS
        return _even_share(self.shape[0], rows), _even_share(self.shape[1], columns)

    def block_rows(self) -> int:
        """The number of query rows of a block of the usual size: a multiple of the rows of a tile."""
        return max(1, self.block_bytes // (self.row_bytes * self.tile[0])) * self.tile[0]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """The distances of queries start..stop to the whole gallery.

        Args:
            start, stop: query rows; start is a multiple of `tile[0]`.
        Returns: (stop − start, Ng) tensor. The caller may change it; the next call overwrites it.
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
        """Distances from `rows` in the unit that users see: Euclidean distances, or 1 − cos, as a float32 copy."""
        if self.metric != "euclidean":
            return distances.clone().float()
        if distances.device.type == "cpu":  # PyTorch's square root may differ in the last bit, by position and version
            return torch.from_numpy(np.sqrt(distances.numpy())).float()
        return distances.sqrt().float()

    def _finish(self, block: torch.Tensor, query_norms: torch.Tensor) -> None:
        """Turn the products (n, Ng) of a block into distances; for Euclidean ones the products have the factor −2."""
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
        """Turn products into distances in place, as tensors or arrays.

        Args:
            part: (n, Ng) products.
            query, gallery: (n, 1) and (Ng,) squared norms, or for the cosine inverse norms.
        """
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
    """A context in which matrix products are in full float32: TF32 would round distances to three digits."""
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
    """The size of equal parts of `count`, each at most `most`, rounded up to a multiple of 64."""
    share = -(-count // -(-count // most))
    return -(-share // 64) * 64


def _inverse_root(squares: torch.Tensor) -> torch.Tensor:
    return torch.where(squares > 0, squares, torch.inf).rsqrt()


def _padded(rows: torch.Tensor, multiple: int) -> torch.Tensor:
    """Rows (n, D), followed by rows of zeros up to a multiple."""
    missing = -len(rows) % multiple
    if missing == 0:
        return rows
    return torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])


def _whole(query: Any, gallery: Any, metric: str, device: torch.device | str | None) -> torch.Tensor:
    query, gallery = Features(query, "q_feats", device), Features(gallery, "g_feats", device)
    distances = PairwiseDistances(query, Features(gallery.values, "g_feats", query.device), metric)
    return distances.rows(0, query.count).contiguous()


def distances(a: Any, b: Any) -> torch.Tensor | np.ndarray:
    """The Euclidean distance of every row of `a` to every row of `b`.

    All distances that svllreid reports are in this unit, also the thresholds of `verify_features` and metrics.json.
    Verification counts on these very numbers: for the same two sets `distances(q_feats, g_feats) <= threshold` accepts
    exactly the pairs that it counted. For a subset of the rows (one query alone) the last bits may differ. Equal rows
    have distance 0.

    This function cannot know which model the rows are from: compare only features of one `Encoder.spec`.

    Args:
        a, b: (n, D) and (m, D) float tensors or arrays, n and m at least 1. float64 is compared in float64, all other
            types in float32. The device of `a` computes.
    Returns: (n, m) float32, a tensor on the device of `a`, or an array if `a` is none. It takes 4 n m bytes, and
        computing it about 100 MB more.
    Raises: EvaluationError: `a` or `b` is not two-dimensional, is empty, is not of a float type, or holds NaN or
        infinity; or D differs.
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
    """Squared Euclidean distances (Nq, Ng), float32 or float64, of features (Nq, D) and (Ng, D).

    Ranking compares them; users get `distances`.
    """
    return _whole(q_feats, g_feats, "euclidean", device)


def cosine(q_feats: Any, g_feats: Any, device: torch.device | str | None = None) -> torch.Tensor:
    """Cosine distances 1 − cos (Nq, Ng), from 0 to 2, of features (Nq, D) and (Ng, D)."""
    return _whole(q_feats, g_feats, "cosine", device)
